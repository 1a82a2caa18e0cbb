"""Where a trial was trained: its device and the versions of what computed it, kept in its folder beside its state."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from advlora.errors import UserError
from advlora_platform.study.folder import read_json, write_json

if TYPE_CHECKING:
    import torch

ENVIRONMENT_FILE = "environment.json"
PACKAGES = ("advlora", "torch", "ray", "optuna", "mlflow", "peft", "open_clip_torch", "transformers", "numpy")
Environment = dict[str, str]
"""`device`, `python` and the name of each package -> what it was."""


def versions() -> Environment:
    """Returns the version of every package that matters to the numbers."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def environment(device: torch.device) -> Environment:
    """Describes where a process trains; holds no path, user name or name of a machine."""
    return {"device": _device_name(device), "python": platform.python_version(), **versions()}


def save_environment(folder: Path, known: Environment) -> None:
    """Replaces the environment of a trial; of one that was continued elsewhere, the last one is known."""
    write_json(folder / ENVIRONMENT_FILE, known)


def load_environment(folder: Path) -> Environment:
    """Returns the environment of a trial; empty where none was kept, or where it is damaged."""
    try:
        return read_json(folder / ENVIRONMENT_FILE) or {}
    except UserError:
        return {}


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
