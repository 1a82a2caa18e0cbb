"""The orchestration around `advlora`: studies, search, execution on Ray, MLflow tracking, analysis and reports.

Importing it is cheap: `run` and `open_study` load Ray and the rest when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advlora_platform.api import open_study, run

__all__ = ["open_study", "run"]


def __getattr__(name: str) -> Any:
    """Imports a public function."""
    if name in __all__:
        return getattr(import_module("advlora_platform.api"), name)
    raise AttributeError(f"module 'advlora_platform' has no attribute '{name}'")
