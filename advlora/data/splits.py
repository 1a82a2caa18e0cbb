"""The parts of a split, whatever the layout, in the order of its draw."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING

from advlora.config import DataConfig
from advlora.data.cache import cache_folder
from advlora.data.layouts import layout_of, listing, load_manifest
from advlora.data.manifest import Manifest, Shard, data_folder
from advlora.data.order import drawn
from advlora.data.parts import Part, Samples
from advlora.data.pixels import fit
from advlora.data.records import Entry, Listing, read_records
from advlora.data.remote import key_of
from advlora.data.shards import decode_shard, read_shard, shard_labels, shards_of
from advlora.errors import DataError
from advlora.kept import draft_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from advlora.models.preprocessing import Preprocessing

CHUNK = 512
"""Records of a layout without shards that are decoded at once."""


def split_parts(config: DataConfig, split: str, preprocessing: Preprocessing, threads: int) -> list[Part]:
    """Divides a split of any layout into what is decoded at once.

    Args:
        config: The data set.
        split: `train`, `val` or `test`.
        preprocessing: How images are brought to the model's size.
        threads: How many images a part decodes at once.

    Raises:
        DataError: If there is no such split, or nothing in it.
    """
    if layout_of(config) == "shards":
        return _of_shards(config, split, preprocessing, threads)
    found = listing(config)
    records = found.records.get(split, ())
    if not records:
        raise DataError(f"data set '{config.name}' has no samples in split '{split}'")
    read = partial(_read_records, found, preprocessing=preprocessing, threads=threads)
    chunks = [range(start, min(start + CHUNK, len(records))) for start in range(0, len(records), CHUNK)]
    return [Part(chunk, partial(read, records[chunk.start : chunk.stop])) for chunk in chunks]


def split_labels(config: DataConfig, split: str, limit: int | None = None) -> list[int]:
    """Returns the classes of the first samples of a split for classification; shards are read for it.

    Raises:
        DataError: If there is no such split, or a shard is missing or damaged.
    """
    if layout_of(config) != "shards":
        return [record.label for record in listing(config).records.get(split, ())[:limit]]
    manifest, folder = load_manifest(config), data_folder(config)
    shards = shards_of(manifest, split)
    if manifest.shuffled:
        return list(islice((label for shard in shards for label in _shard_labels(shard, folder, manifest)), limit))
    labels = _labels(manifest, folder, shards)
    return [labels[position] for position in _order(split, labels)[:limit]]


def _of_shards(config: DataConfig, split: str, preprocessing: Preprocessing, threads: int) -> list[Part]:
    manifest, folder = load_manifest(config), data_folder(config)
    shards = shards_of(manifest, split)
    read = partial(_read_shard, folder=folder, manifest=manifest, preprocessing=preprocessing, threads=threads)
    places = _places(manifest, folder, split)
    starts = accumulate((shard.samples for shard in shards), initial=0)
    return [
        Part(places[start : start + shard.samples], partial(read, shard))
        for start, shard in zip(starts, shards, strict=False)
    ]


def _places(manifest: Manifest, folder: Path, split: str) -> Sequence[int]:
    """Returns where every sample of a split, in the order of its shards, stands in the order of the split."""
    shards, total = shards_of(manifest, split), manifest.splits[split].samples
    if manifest.shuffled:
        return range(total)
    labels = [0] * total if manifest.task == "retrieval" else _labels(manifest, folder, shards)
    places = [0] * total
    for place, position in enumerate(_order(split, labels)):
        places[position] = place
    return places


def _order(split: str, labels: Sequence[int]) -> list[int]:
    return drawn(labels, [f"{split}/{position}" for position in range(len(labels))])


def _labels(manifest: Manifest, folder: Path, shards: Sequence[Shard]) -> list[int]:
    return [label for shard in shards for label in _shard_labels(shard, folder, manifest)]


def _shard_labels(shard: Shard, folder: Path, manifest: Manifest) -> list[int]:
    """Reads the classes of a shard once; they are remembered by its hash and the number of classes."""
    memory = cache_folder("labels") / f"{key_of(shard.url, shard.sha256)}-{len(manifest.classes)}-{shard.samples}.json"
    with suppress(OSError, ValueError):
        known: list[int] = json.loads(memory.read_text())
        return known
    labels = list(shard_labels(shard, read_shard(shard, folder), manifest))
    with suppress(OSError), draft_of(memory) as draft:  # without a place to write they are read again
        draft.write_text(json.dumps(labels))
    return labels


def _read_records(
    found: Listing, records: Sequence[Entry], chosen: Sequence[int], *, preprocessing: Preprocessing, threads: int
) -> Samples:
    return read_records([records[position] for position in chosen], preprocessing, found.frame_count, threads)


def _read_shard(
    shard: Shard,
    chosen: Sequence[int],
    *,
    folder: Path,
    manifest: Manifest,
    preprocessing: Preprocessing,
    threads: int,
) -> Samples:
    content, make = read_shard(shard, folder), partial(fit, preprocessing=preprocessing)
    samples = decode_shard(shard, content, manifest, make, frozenset(chosen), threads)
    images, labels, captions = zip(*samples, strict=True)
    return images, labels, captions
