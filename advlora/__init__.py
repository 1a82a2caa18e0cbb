"""AdvLoRA: adversarial low-rank adaptation of vision-language models.

The method only: configuration, models, data, adapters, attacks, training and evaluation. It knows nothing of the
orchestration (Ray, Optuna, MLflow), which lives in `advlora_platform`. Importing it is cheap: `load_model`, `adapt`,
`attack` and `evaluate` load torch when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advlora.api import adapt, attack, evaluate, load_model

__version__ = "0.1.0"
__all__ = ["adapt", "attack", "evaluate", "load_model"]


def __getattr__(name: str) -> Any:
    """Imports a public function."""
    if name in __all__:
        return getattr(import_module("advlora.api"), name)
    raise AttributeError(f"module 'advlora' has no attribute '{name}'")
