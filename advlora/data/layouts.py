"""From a `DataConfig` to its manifest, whatever the layout on disk."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from advlora.config import DataConfig
from advlora.data.folders import folders
from advlora.data.karpathy import karpathy
from advlora.data.manifest import Manifest, read_manifest
from advlora.data.msrvtt import msrvtt
from advlora.data.records import Listing
from advlora.errors import DataError

LAYOUTS = {"karpathy": karpathy, "folders": folders, "msrvtt": msrvtt}


def load_manifest(config: DataConfig) -> Manifest:
    """Reads and validates the manifest of a data set, or makes the one of a published layout.

    Raises:
        DataError: If the data set is unknown, or what describes it is missing or malformed.
    """
    if config.layout == "shards":
        return read_manifest(config)
    found = listing(config)
    if found.problems:
        raise DataError(found.problems)
    return found.manifest()


def listing(config: DataConfig) -> Listing:
    """Lists a folder of a published layout; the last ones are remembered.

    Raises:
        DataError: If the folder is missing, or what describes it is not readable.
    """
    folder = Path(config.name).expanduser()
    if not folder.is_dir():
        raise DataError(f"data.name: folder '{config.name}' does not exist")
    return _listing(config.layout, folder)


@lru_cache(maxsize=8)
def _listing(layout: str, folder: Path) -> Listing:
    return LAYOUTS[layout](folder)
