"""From a `DataConfig` to its manifest, whatever the layout on disk."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from advlora.config import DataConfig
from advlora.data.clip_benchmark import is_clip_benchmark
from advlora.data.folders import folders, split_folders
from advlora.data.karpathy import karpathy
from advlora.data.manifest import MANIFEST_FILE, Manifest, read_manifest
from advlora.data.msrvtt import DESCRIPTIONS, msrvtt
from advlora.data.names import named
from advlora.data.records import Listing
from advlora.data.remote import forget
from advlora.data.torchvision_sets import is_of_torchvision, torchvision_sets
from advlora.errors import DataError
from advlora.shelves import embedded_data

LAYOUTS = {"karpathy": karpathy, "folders": folders, "msrvtt": msrvtt, "torchvision": torchvision_sets}


def load_manifest(config: DataConfig) -> Manifest:
    """Reads and validates the manifest of a data set, or makes the one of a published layout.

    Raises:
        DataError: If the data set is unknown, or what describes it is missing or malformed.
    """
    if layout_of(config) == "shards":
        return named(read_manifest(config), config)
    found = listing(config)
    if found.problems:
        raise DataError(found.problems)
    return named(found.manifest, config)


def listing(config: DataConfig) -> Listing:
    """Lists a folder of a published layout, every split in the order of its draw; the last ones are remembered.

    Raises:
        DataError: If the folder is missing, or what describes it is not readable.
    """
    folder = Path(config.name).expanduser()
    if not folder.is_dir():
        raise DataError(f"data.name: folder '{config.name}' does not exist")
    return _listing(layout_of(config), folder, config.frames)


def layout_of(config: DataConfig) -> str:
    """Returns the layout of a data set: the configured one, or by what its folder holds (`shards` if nothing)."""
    folder = Path(config.name).expanduser()
    if config.layout != "auto":
        return config.layout
    if config.name in embedded_data() or not folder.is_dir() or is_clip_benchmark(folder):
        return "shards"
    if any((folder / name).is_file() for name in DESCRIPTIONS):
        return "msrvtt"
    if any(file.is_file() and file.name != MANIFEST_FILE for file in folder.glob("dataset*.json")):
        return "karpathy"
    if is_of_torchvision(folder):
        return "torchvision"
    if not (folder / MANIFEST_FILE).is_file() and split_folders(folder):
        return "folders"
    return "shards"


def forget_listings() -> None:
    """Makes the next reading of a folder list it again, and ask the servers of its shards."""
    _listing.cache_clear()
    forget()


@lru_cache(maxsize=8)
def _listing(layout: str, folder: Path, frames: int) -> Listing:
    return replace(LAYOUTS[layout](folder), folder=folder, frames=frames).drawn()
