"""`load_split`: a split of any layout as tensors, poisoned where the configuration says so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from advlora.config import DataConfig
from advlora.data.layouts import layout_of, listing, load_manifest
from advlora.data.records import frame_count, read_records
from advlora.data.shards import ImageTextSet, assembled, read_split
from advlora.data.store import stored_split
from advlora.errors import DataError

if TYPE_CHECKING:
    from advlora.models.preprocessing import Preprocessing


def load_split(config: DataConfig, split: str, preprocessing: Preprocessing, limit: int | None = None) -> ImageTextSet:
    """Reads the first samples of a split into memory, or maps them where the configuration stores them on disk.

    Args:
        config: The data set.
        split: `train`, `val` or `test`.
        preprocessing: How images of another size are brought to the model's.
        limit: At most this many samples; None for all.

    Raises:
        DataError: If the data set, the split or a file is missing or damaged.
    """
    data = _clean(config, split, preprocessing, limit)
    if config.classes or config.templates:
        manifest = load_manifest(config)
        captions = tuple(manifest.captions(label)[0] for label in data.labels.tolist())
        data = replace(data, captions=captions, others=())
    if split == "train" and config.poison.kind != "none" and config.poison.rate:
        from advlora.data.poisoning import poison

        return poison(data, config.poison, load_manifest(config))
    return data


def _clean(config: DataConfig, split: str, preprocessing: Preprocessing, limit: int | None) -> ImageTextSet:
    if config.store == "disk":
        return stored_split(config, split, preprocessing, limit)
    if layout_of(config) == "shards":
        return read_split(config, split, preprocessing, limit)
    found = listing(config)
    records = found.records.get(split, ())[:limit]
    if not records:
        raise DataError(f"data set '{config.name}' has no samples in split '{split}'")
    images, labels, captions = read_records(records, preprocessing, frame_count(config, found))
    return assembled(np.stack(images), labels, captions)
