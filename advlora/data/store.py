"""Images on disk instead of in memory: decoded once, part by part, and mapped by every process that reads them.

Processes that see the same folder share the decoding: each begins at another part and skips what is done. Two that
decode the same part at once write the same bytes, so nothing is locked, and the unfinished part of a killed process is
decoded again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from advlora.config import DataConfig
from advlora.data.layouts import layout_of, listing, load_manifest
from advlora.data.manifest import Manifest, Shard, data_folder
from advlora.data.records import frame_count, read_records
from advlora.data.shards import ImageTextSet, assembled, decode_shard, read_shard, shards_of
from advlora.errors import DataError
from advlora.identity import fingerprint

if TYPE_CHECKING:
    from advlora.models.preprocessing import Preprocessing

CACHE_VARIABLE = "ADVLORA_CACHE"
CHUNK = 512
"""Records of a layout without shards that are decoded at once."""

Samples = tuple[Sequence[np.ndarray[Any, Any]], Sequence[int], Sequence[tuple[str, ...]]]
"""Images `(3, H, W)` (videos `(F, 3, H, W)`), labels, captions."""


@dataclass(frozen=True)
class Part:
    """A run of samples that one process decodes at once: a shard, or a chunk of records."""

    start: int
    samples: int
    read: Callable[[], Samples]


def stored_split(
    config: DataConfig, split: str, preprocessing: Preprocessing, limit: int | None = None
) -> ImageTextSet:
    """Maps the first samples of a split, once they are decoded; see `load_split`.

    Raises:
        DataError: If the data set, the split or a file is missing or damaged, or the folder cannot be written.
    """
    parts = split_parts(config, split, preprocessing)
    if not parts:
        raise DataError(f"data set '{config.name}' has no samples in split '{split}'")
    identity = fingerprint(load_manifest(config).hash, config.frames, asdict(preprocessing))
    store = _Store(cache_folder() / f"{identity}-{split}-{preprocessing.size}", parts)
    wanted = [part for part in parts if limit is None or part.start < limit]
    first = os.getpid() % len(wanted)
    try:
        for part in (*wanted[first:], *wanted[:first]):
            store.fill(part)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"data.store: 'disk' cannot write to '{store.folder}': {reason}; {CACHE_VARIABLE} names another folder"
        ) from error
    return store.mapped(wanted, limit)


def cache_folder() -> Path:
    """Returns where decoded images are kept: the folder that `ADVLORA_CACHE` names, or `~/.cache/advlora`."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "advlora") / "images"


def split_parts(config: DataConfig, split: str, preprocessing: Preprocessing) -> list[Part]:
    """Divides a split of any layout into what is decoded at once."""
    if layout_of(config) == "shards":
        manifest, folder = load_manifest(config), data_folder(config)
        shards = shards_of(manifest, split)
        starts = accumulate((shard.samples for shard in shards), initial=0)
        read = partial(_read_shard, folder=folder, manifest=manifest, preprocessing=preprocessing)
        return [Part(start, shard.samples, partial(read, shard)) for start, shard in zip(starts, shards, strict=False)]
    found = listing(config)
    records, video = found.records.get(split, ()), frame_count(config, found)
    chunks = [(start, records[start : start + CHUNK]) for start in range(0, len(records), CHUNK)]
    return [Part(start, len(chunk), partial(read_records, chunk, preprocessing, video)) for start, chunk in chunks]


def _read_shard(shard: Shard, *, folder: Path, manifest: Manifest, preprocessing: Preprocessing) -> Samples:
    images, labels, captions = zip(
        *decode_shard(shard, read_shard(shard, folder), manifest, preprocessing), strict=True
    )
    return images, labels, captions


class _Store:
    """A folder with one array of all images, and a file of labels and captions per part that is done."""

    def __init__(self, folder: Path, parts: list[Part]) -> None:
        self.folder, self.array = folder, folder / "images.npy"
        self.samples = sum(part.samples for part in parts)

    def fill(self, part: Part) -> None:
        """Decodes a part unless it is done."""
        if self._done(part).exists():
            return
        images, labels, captions = part.read()
        array = self._writable(images[0].shape)
        array[part.start : part.start + part.samples] = np.stack(images)
        array.flush()
        text = json.dumps({"labels": [int(label) for label in labels], "captions": captions})
        self._place(self._done(part), lambda file: file.write_text(text))

    def mapped(self, parts: list[Part], limit: int | None) -> ImageTextSet:
        """Returns the samples of the first parts; their images stay on disk until they are looked at."""
        found = [json.loads(self._done(part).read_text()) for part in parts]
        labels = [label for part in found for label in part["labels"]][:limit]
        captions = [tuple(own) for part in found for own in part["captions"]][:limit]
        return assembled(np.load(self.array, mmap_mode="c")[: len(labels)], labels, captions)

    def _done(self, part: Part) -> Path:
        return self.folder / f"{part.start:09d}-{part.samples}.json"

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
