"""Images on disk instead of in memory: decoded once, part by part, and mapped by every process that reads them.

Processes that see the same folder share the decoding: each begins at another part and skips what is done. Two that
decode the same part at once write the same bytes, so nothing is locked, and the unfinished part of a killed process is
decoded again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from advlora.config import DataConfig
from advlora.data.cache import CACHE_VARIABLE, cache_folder
from advlora.data.layouts import layout_of, load_manifest
from advlora.data.parts import Part, first_parts
from advlora.data.shards import ImageTextSet, assembled
from advlora.errors import DataError
from advlora.identity import fingerprint
from advlora.progress import counted

if TYPE_CHECKING:
    from advlora.models.preprocessing import Preprocessing


def stored_split(
    config: DataConfig, split: str, preprocessing: Preprocessing, parts: Sequence[Part], limit: int | None
) -> ImageTextSet:
    """Maps the first samples of a split, once they are decoded; see `load_split`.

    Where the samples of a split lie in order, further ones are added to those that are there. Where they are drawn from
    all over it, every limit has a folder of its own, and nothing else is decoded.

    Raises:
        DataError: If a file is missing or damaged, or the folder cannot be written.
    """
    manifest = load_manifest(config)
    scattered = layout_of(config) == "shards" and not manifest.shuffled
    if scattered:
        parts = list(first_parts(parts, limit))
    wanted = [part for part in parts if limit is None or min(part.places) < limit]
    of_limit = [sum(len(part.places) for part in parts)] if scattered else []
    identity = fingerprint(manifest.hash, config.frames, asdict(preprocessing), *of_limit)
    store = _Store(cache_folder("images") / f"{identity}-{split}-{preprocessing.size}", parts)
    first = os.getpid() % len(wanted)
    try:
        for part in counted((*wanted[first:], *wanted[:first]), len(wanted), "parts"):
            store.fill(part)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"data.store: 'disk' cannot write to '{store.folder}': {reason}; {CACHE_VARIABLE} names another folder"
        ) from error
    return store.mapped(wanted, limit)


class _Store:
    """A folder with one array of all images, and a file of labels and captions per part that is done."""

    def __init__(self, folder: Path, parts: Sequence[Part]) -> None:
        self.folder, self.array = folder, folder / "images.npy"
        self.samples = sum(len(part.places) for part in parts)

    def fill(self, part: Part) -> None:
        """Decodes a part unless it is done."""
        if self._done(part).exists():
            return
        images, labels, captions = part.all()
        array = self._writable(images[0].shape)
        array[np.asarray(part.places)] = np.stack(images)
        array.flush()
        text = json.dumps({"labels": [int(label) for label in labels], "captions": captions})
        self._place(self._done(part), lambda file: file.write_text(text))

    def mapped(self, parts: Sequence[Part], limit: int | None) -> ImageTextSet:
        """Returns the samples of the first parts; their images stay on disk until they are looked at."""
        found: dict[int, tuple[int, tuple[str, ...]]] = {}
        for part in parts:
            done = json.loads(self._done(part).read_text())
            own = zip(done["labels"], map(tuple, done["captions"]), strict=True)
            found.update(zip(part.places, own, strict=True))
        labels, captions = zip(*(found[place] for place in sorted(found)[:limit]), strict=True)
        return assembled(np.load(self.array, mmap_mode="c")[: len(labels)], labels, captions)

    def _done(self, part: Part) -> Path:
        return self.folder / f"{min(part.places):09d}-{len(part.places)}.json"

    def _writable(self, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
        if not self.array.exists():
            whole = (self.samples, *shape)
            self._place(self.array, lambda file: np.lib.format.open_memmap(file, "w+", np.uint8, whole).flush())
        return np.lib.format.open_memmap(self.array, "r+")

    def _place(self, file: Path, write: Callable[[Path], object]) -> None:
        """Makes a file appear complete; an existing one stays, because other processes may have it open."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.{os.getpid()}")
        write(draft)
        try:
            os.link(draft, file)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
