"""Images on disk instead of in memory: decoded once, part by part, and mapped by every process that reads them.

Processes that see the same folder share the decoding: a part is locked by the one that decodes it, the others go on
with the next, and in the end wait for what is left. The unfinished part of a killed process is decoded again.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from advlora.config import DataConfig
from advlora.data.cache import CACHE_VARIABLE, cache_folder
from advlora.data.layouts import layout_of, load_manifest
from advlora.data.parts import Part, first_parts
from advlora.data.shards import ImageTextSet, assembled
from advlora.errors import DataError
from advlora.identity import fingerprint
from advlora.kept import draft_of, unwritable
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
    try:
        store.fill(wanted)
    except OSError as error:
        remedy = f"{CACHE_VARIABLE} names another folder"
        raise DataError(f"data.store: 'disk' {unwritable(store.folder, error, remedy)}") from error
    return store.mapped(wanted, limit)


class _Store:
    """A folder with one array of all images, and a file of labels and captions per part that is done."""

    def __init__(self, folder: Path, parts: Sequence[Part]) -> None:
        self.folder, self.array = folder, folder / "images.npy"
        self.samples = sum(len(part.places) for part in parts)

    def fill(self, parts: Sequence[Part]) -> None:
        """Decodes the parts that are not done; those that another process is at come last."""
        steps = counted((self._fill(part, wait=False) for part in parts), len(parts), "parts")
        busy = [part for part, done in zip(parts, steps, strict=True) if not done]
        for part in busy:
            self._fill(part, wait=True)

    def _fill(self, part: Part, *, wait: bool) -> bool:
        """Decodes a part unless it is done, or another process is at it and it need not be waited for.

        Returns:
            Whether the part is done.
        """
        if self._done(part).exists():
            return True
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._done(part).with_suffix(".lock"), timeout=-1 if wait else 0)
        try:
            with lock:
                if not self._done(part).exists():
                    self._decode(part)
                Path(lock.lock_file).unlink(missing_ok=True)  # who waits for it finds the part done
        except Timeout:
            return False
        return True

    def _decode(self, part: Part) -> None:
        images, labels, captions = part.all()
        self._write(part.places, images)
        with draft_of(self._done(part)) as draft:
            draft.write_text(json.dumps({"labels": [int(label) for label in labels], "captions": captions}))

    def _write(self, places: Sequence[int], images: Sequence[np.ndarray[Any, Any]]) -> None:
        """Writes images to their places: not through a mapping, for a full disk kills the process that does."""
        if not self.array.exists():
            self._create((self.samples, *images[0].shape))
        start, size = np.load(self.array, mmap_mode="r").offset, images[0].nbytes
        with self.array.open("r+b") as file:
            for place, image in zip(places, images, strict=True):
                file.seek(start + place * size)
                file.write(np.ascontiguousarray(image).data)
            file.flush()
            os.fsync(file.fileno())

    def _create(self, shape: tuple[int, ...]) -> None:
        """Makes the array, without its content; an existing one stays, because other processes may have it open."""
        draft = self.array.with_name(f".{self.array.name}.{uuid.uuid4().hex}")
        try:
            np.lib.format.open_memmap(draft, "w+", np.uint8, shape).flush()
            with suppress(FileExistsError):
                os.link(draft, self.array)
        finally:
            draft.unlink(missing_ok=True)

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
