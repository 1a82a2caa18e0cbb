"""What ships with the package, by name. It reads no file, so that naming it costs nothing."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

MODEL_FILE, DATA_FILE = "open_clip_config.json", "dataset.json"


def shelf() -> Path:
    """Returns the folder of embedded models and data sets, one folder each."""
    return Path(str(resources.files("advlora"))) / "embedded"


def embedded_models() -> list[str]:
    """Returns the names of the models that ship with the package."""
    return sorted(file.parent.name for file in shelf().glob(f"*/{MODEL_FILE}"))


def embedded_data() -> list[str]:
    """Returns the names of the data sets that ship with the package."""
    return sorted(file.parent.name for file in shelf().glob(f"*/{DATA_FILE}"))
