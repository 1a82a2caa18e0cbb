"""WebDataset shards as tensors. Every shard is checked against its hash before a byte of it is decoded."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from advlora.data.files import IMAGE_SUFFIXES, of_a_tool, shown
from advlora.data.manifest import Manifest, Shard
from advlora.data.parallel import in_parallel
from advlora.data.pixels import DAMAGE
from advlora.data.remote import changed, fetched
from advlora.errors import DataError, did_you_mean
from advlora.text import decoded

if TYPE_CHECKING:
    from torch import Tensor

Content = TypeVar("Content")
Made = TypeVar("Made")


@dataclass(frozen=True)
class ImageTextSet:
    """Samples of a split, in its order. Shared between trials, so it must not be changed in place.

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
    """Reads the bytes of a shard; one that lies elsewhere is fetched first.

    Raises:
        DataError: If it is missing or cannot be fetched, or its hash is not the manifest's.
    """
    file = fetched(shard.url, shard.sha256) if shard.remote else folder / shard.url
    where = shard.name if shard.remote else str(file)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"shard '{where}' cannot be read: {error.strerror or error}") from error
    if shard.sha256 and (found := hashlib.sha256(content).hexdigest()) != shard.sha256:
        if shard.remote:
            file.unlink(missing_ok=True)  # the copy, which was sound when it was made, is fetched again next time
        raise DataError(changed(where, found, shard.sha256))
    return content


def decode_shard(
    shard: Shard,
    content: bytes,
    manifest: Manifest,
    make: Callable[[bytes], Made],
    wanted: Collection[int] | None = None,
    threads: int = 1,
) -> Iterator[tuple[Made, int, tuple[str, ...]]]:
    """Decodes samples of a shard: image, label, captions.

    Args:
        shard: What the manifest says of it.
        content: Its bytes.
        manifest: The data set.
        make: What becomes of the bytes of an image.
        wanted: Positions of the samples that are decoded; None for all.
        threads: How many are decoded at once.

    Raises:
        DataError: If a sample is malformed, or their number is not the manifest's.
    """
    return _read(shard, content, manifest, lambda sample: _decode(sample, manifest, make), wanted, threads)


def shard_captions(shard: Shard, content: bytes, manifest: Manifest) -> Iterator[tuple[str, ...]]:
    """Reads the captions of a shard for retrieval, and leaves its images alone.

    Raises:
        DataError: If a sample has none, or their number is not the manifest's.
    """
    return _read(shard, content, manifest, _captions)


def shard_labels(shard: Shard, content: bytes, manifest: Manifest) -> Iterator[int]:
    """Reads the classes of a shard's samples, and leaves its images alone.

    Raises:
        DataError: If a sample has none, or their number is not the manifest's.
    """
    return _read(shard, content, manifest, lambda sample: _label(sample, manifest))


def _read(
    shard: Shard,
    content: bytes,
    manifest: Manifest,
    read: Callable[[dict[str, Any]], Content],
    wanted: Collection[int] | None = None,
    threads: int = 1,
) -> Iterator[Content]:
    count = 0

    def chosen() -> Iterator[dict[str, Any]]:
        nonlocal count
        for count, sample in enumerate(_samples(shard, content), 1):
            if wanted is None or count - 1 in wanted:
                yield sample

    where = f"shard '{shard.name}' of data set '{manifest.name}'"
    try:
        yield from in_parallel(partial(_named, read), chosen(), threads)
    except DAMAGE as error:
        # WebDataset appends streams to the arguments and their addresses to the message.
        reason = str(error.args[0]).split(" @ <")[0] if error.args else type(error).__name__
        raise DataError(f"{where} is damaged: {reason}") from error
    if count != shard.samples:
        raise DataError(f"{where} holds {count} samples, the manifest says {shard.samples}")


def _samples(shard: Shard, content: bytes) -> Iterator[dict[str, Any]]:
    """Yields the samples of an archive: `__key__`, and the bytes of its files by suffix in lower case."""
    from webdataset.tariterators import group_by_keys, tar_file_expander

    source = [{"url": shard.name, "stream": io.BytesIO(content)}]
    yield from group_by_keys(tar_file_expander(source, select_files=lambda name: not of_a_tool(name)))


def _named(read: Callable[[dict[str, Any]], Content], sample: dict[str, Any]) -> Content:
    """Names the sample of what is wrong with it."""
    try:
        return read(sample)
    except DAMAGE as error:
        raise ValueError(f"sample {shown(sample['__key__'])}: {error}") from error


def _decode(
    sample: dict[str, Any], manifest: Manifest, make: Callable[[bytes], Made]
) -> tuple[Made, int, tuple[str, ...]]:
    """Returns image, label and captions; without a `.txt` the caption is the first template, filled.

    Raises:
        ValueError: If a file of the sample is missing or malformed.
    """
    images = [suffix for suffix in sample if f".{suffix}".endswith(IMAGE_SUFFIXES)]
    suffix = min(images, key=lambda suffix: suffix.count("."), default=None)  # `png` before `mask.png`
    if suffix is None:
        held = ", ".join(f".{name}" for name in sample if not name.startswith("__"))
        raise ValueError(f"lacks an image; it holds {held}, images are {', '.join(IMAGE_SUFFIXES)}")
    if manifest.task == "retrieval":
        return make(sample[suffix]), 0, _captions(sample)
    label = _label(sample, manifest)
    caption = _text(sample).strip() if "txt" in sample else manifest.captions(label)[0]
    return make(sample[suffix]), label, (caption,)


def _label(sample: dict[str, Any], manifest: Manifest) -> int:
    if "cls" not in sample:
        raise ValueError("lacks its .cls")
    try:
        label = int(sample["cls"])
    except ValueError:
        raise ValueError(f"its .cls holds {sample['cls'][:20]!r}, not the number of a class") from None
    if not 0 <= label < len(manifest.classes):
        raise ValueError(f"has class {label}, there are {len(manifest.classes)}")
    return label


def _captions(sample: dict[str, Any]) -> tuple[str, ...]:
    captions = tuple(line.strip() for line in _text(sample).splitlines() if line.strip())
    if not captions:
        raise ValueError("lacks its .txt, or it is empty")
    return captions


def _text(sample: dict[str, Any]) -> str:
    try:
        return decoded(sample.get("txt", b""))
    except ValueError as error:
        raise ValueError(f"its .txt {error}") from error
