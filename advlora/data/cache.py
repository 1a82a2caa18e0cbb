"""Where what was computed of data sets is kept between processes."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "ADVLORA_CACHE"


def cache_folder(purpose: str) -> Path:
    """Returns a subfolder of the folder that `ADVLORA_CACHE` names, or of `~/.cache/advlora`."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "advlora") / purpose
