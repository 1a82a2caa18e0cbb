"""`load_split`: a split of any layout as tensors, poisoned where the configuration says so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from advlora.config import DataConfig
from advlora.data.layouts import load_manifest
from advlora.data.parts import Part, first_parts
from advlora.data.shards import ImageTextSet, assembled
from advlora.data.splits import split_parts
from advlora.data.store import stored_split
from advlora.progress import counted

if TYPE_CHECKING:
    from advlora.models.preprocessing import Preprocessing


def load_split(config: DataConfig, split: str, preprocessing: Preprocessing, limit: int | None = None) -> ImageTextSet:
    """Reads the first samples of a split into memory, or maps them where the configuration stores them on disk.

    The first samples are a fixed draw: as many of every class as there can be.

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
    import torch

    parts = split_parts(config, split, preprocessing, torch.get_num_threads())
    if config.store == "disk":
        return stored_split(config, split, preprocessing, parts, limit)
    return _in_memory(list(first_parts(parts, limit)))


def _in_memory(parts: list[Part]) -> ImageTextSet:
    samples = sum(len(part.places) for part in parts)
    empty: tuple[str, ...] = ()
    images: np.ndarray[Any, Any] = np.empty(0)
    labels, captions = [0] * samples, [empty] * samples
    for part in counted(parts, len(parts), "parts"):
        found, own_labels, own_captions = part.all()
        images = images if images.size else np.empty((samples, *found[0].shape), np.uint8)
        images[np.asarray(part.places)] = np.stack(found)
        for place, label, own in zip(part.places, own_labels, own_captions, strict=True):
            labels[place], captions[place] = label, own
    return assembled(images, labels, captions)
