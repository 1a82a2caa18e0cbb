"""WebDataset shards as tensors. Every shard is checked against its hash before a byte of it is decoded."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from advlora.config import DataConfig
from advlora.data.manifest import Manifest, Shard, data_folder, read_manifest
from advlora.data.pixels import DAMAGE, fit
from advlora.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from advlora.models.preprocessing import Preprocessing

IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "webp")
Content = TypeVar("Content")


@dataclass(frozen=True)
class ImageTextSet:
    """Samples of a split, in the order of its shards. Shared between trials, so it must not be changed in place.

    Attributes:
        images: `(N, 3, H, W)`, uint8; videos `(N, F, 3, H, W)`.
        labels: `(N,)`, int64, indices into the manifest's classes.
        captions: One per sample.
        others: Further captions of each sample; empty where there are none.
    """

    images: Tensor
    labels: Tensor
    captions: tuple[str, ...]
    others: tuple[tuple[str, ...], ...] = ()

    @property
    def references(self) -> tuple[tuple[str, ...], ...]:
        """All captions of each sample."""
        others = self.others or ((),) * len(self.captions)
        return tuple((first, *rest) for first, rest in zip(self.captions, others, strict=True))

    def first(self, count: int) -> ImageTextSet:
        """Returns the first samples, or all if there are fewer."""
        return ImageTextSet(self.images[:count], self.labels[:count], self.captions[:count], self.others[:count])

    def __len__(self) -> int:
        return len(self.captions)


def read_split(config: DataConfig, split: str, preprocessing: Preprocessing, limit: int | None = None) -> ImageTextSet:
    """Reads the first samples of a split into memory; shards beyond them are not opened. See `load_split`."""
    manifest, folder = read_manifest(config), data_folder(config)
    samples = (
        decoded
        for shard in shards_of(manifest, split)
        for decoded in decode_shard(shard, read_shard(shard, folder), manifest, preprocessing)
    )
    images, labels, captions = zip(*islice(samples, limit), strict=True)
    return assembled(np.stack(images), labels, captions)


def shards_of(manifest: Manifest, split: str) -> tuple[Shard, ...]:
    """Returns the shards of a split.

    Raises:
        DataError: If there is no such split.
    """
    if split not in manifest.splits:
        raise DataError(f"data set '{manifest.name}' has no split '{split}'{did_you_mean(split, manifest.splits)}")
    if not manifest.splits[split].shards:
        raise DataError(f"data set '{manifest.name}' has no samples in split '{split}'")
    return manifest.splits[split].shards


def assembled(images: np.ndarray[Any, Any], labels: Sequence[int], captions: Sequence[tuple[str, ...]]) -> ImageTextSet:
    """Puts samples together; each has at least one caption."""
    import torch

    others = tuple(rest for _, *rest in captions)
    return ImageTextSet(
        torch.from_numpy(images),
        torch.tensor(labels),
        tuple(first for first, *_ in captions),
        tuple(map(tuple, others)) if any(others) else (),
    )


def read_shard(shard: Shard, folder: Path) -> bytes:
    """Reads the bytes of a shard.

    Raises:
        DataError: If it is missing, or its hash is not the manifest's.
    """
    try:
        content = _fetch(shard.url) if shard.remote else (folder / shard.url).read_bytes()
    except OSError as error:
        raise DataError(f"shard '{_where(shard, folder)}' cannot be read: {error.strerror or error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != shard.sha256:
        raise DataError(
            f"shard '{_where(shard, folder)}' is damaged or was changed: "
            f"its SHA-256 is {found[:12]}..., the manifest says {shard.sha256[:12]}..."
        )
    return content


def _fetch(url: str) -> bytes:
    from webdataset import gopen

    with gopen(url) as stream:
        content: bytes = stream.read()
    return content


def _where(shard: Shard, folder: Path) -> str:
    return shard.url if shard.remote else str(folder / shard.url)


def decode_shard(
    shard: Shard, content: bytes, manifest: Manifest, preprocessing: Preprocessing
) -> Iterator[tuple[np.ndarray[Any, Any], int, tuple[str, ...]]]:
    """Decodes a shard's samples: image `(3, H, W)`, label, captions.

    Raises:
        DataError: If a sample is malformed, or their number is not the manifest's.
    """
    return _read(shard, content, manifest, lambda sample: _decode(sample, manifest, preprocessing))


def shard_captions(shard: Shard, content: bytes, manifest: Manifest) -> Iterator[tuple[str, ...]]:
    """Reads the captions of a shard for retrieval, and leaves its images alone.

    Raises:
        DataError: If a sample has none, or their number is not the manifest's.
    """
    return _read(shard, content, manifest, _captions)


def _read(
    shard: Shard, content: bytes, manifest: Manifest, read: Callable[[dict[str, Any]], Content]
) -> Iterator[Content]:
    from webdataset.tariterators import group_by_keys, tar_file_expander

    count = 0
    try:
        for sample in group_by_keys(tar_file_expander([{"url": shard.url, "stream": io.BytesIO(content)}])):
            yield read(sample)
            count += 1
    except DAMAGE as error:
        reason = error.args[0] if error.args else type(error).__name__  # WebDataset appends streams to the arguments
        raise DataError(f"shard '{shard.url}' of data set '{manifest.name}' is damaged: {reason}") from error
    if count != shard.samples:
        raise DataError(
            f"shard '{shard.url}' of data set '{manifest.name}' holds {count} samples, "
            f"the manifest says {shard.samples}"
        )


def _decode(
    sample: dict[str, Any], manifest: Manifest, preprocessing: Preprocessing
) -> tuple[np.ndarray[Any, Any], int, tuple[str, ...]]:
    """Returns image `(3, H, W)`, label and captions; without a `.txt` the caption is the first template, filled.

    Raises:
        ValueError: If a file of the sample is missing or malformed.
    """
    suffix = next((suffix for suffix in IMAGE_SUFFIXES if suffix in sample), None)
    if manifest.task == "retrieval" and suffix is not None:
        return fit(sample[suffix], preprocessing), 0, _captions(sample)
    if suffix is None or "cls" not in sample:
        raise ValueError(f"sample {sample['__key__']} lacks {'an image' if suffix is None else 'its .cls'}")
    label = int(sample["cls"])
    if not 0 <= label < len(manifest.classes):
        raise ValueError(f"sample {sample['__key__']} has class {label}, there are {len(manifest.classes)}")
    caption = sample["txt"].decode().strip() if "txt" in sample else manifest.captions(label)[0]
    return fit(sample[suffix], preprocessing), label, (caption,)


def _captions(sample: dict[str, Any]) -> tuple[str, ...]:
    lines = sample.get("txt", b"").decode().splitlines()
    captions = tuple(line.strip() for line in lines if line.strip())
    if not captions:
        raise ValueError(f"sample {sample['__key__']} lacks its .txt, or it is empty")
    return captions
