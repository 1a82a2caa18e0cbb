"""Where numbers come from: commit, method code, versions, machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from advlora.identity import code_version

_PACKAGES = ("advlora", "torch", "ray", "optuna", "mlflow", "peft", "open_clip_torch", "transformers", "numpy")


def provenance() -> dict[str, Any]:
    """Describes the code and the machine; holds no path, user name or secret."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "code_version": code_version(),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
    }


def _git(*arguments: str) -> str | None:
    """Asks git about the checkout that this code lies in; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
