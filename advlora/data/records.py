"""Data sets in the folders that others publish: records of files, and how records become tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from advlora.config import DataConfig
from advlora.data.manifest import SPLITS, Manifest, Split
from advlora.data.pixels import DAMAGE, fit
from advlora.data.video import frames
from advlora.errors import DataError

if TYPE_CHECKING:
    from advlora.models.preprocessing import Preprocessing

Pixels = np.ndarray[Any, Any]
MANY = 5
"""Problems of one kind beyond these are counted, not listed."""


@dataclass(frozen=True)
class Entry:
    """One sample.

    Attributes:
        file: An image; a video file, or a folder of its frames.
        captions: At least one.
        label: Index into the classes; 0 where there are none.
    """

    file: Path
    captions: tuple[str, ...]
    label: int = 0


@dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Attributes:
        name: Name of the data set.
        records: Split -> its samples, in order.
        classes: Names; empty for retrieval.
        templates: Captions of a class; empty for retrieval.
        video: Whether the records are videos.
        problems: One sentence per problem.
    """

    name: str
    records: dict[str, tuple[Entry, ...]]
    classes: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    video: bool = False
    problems: tuple[str, ...] = ()

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest; its content is identified by captions, file names and sizes at the first reading."""
        digest = hashlib.sha256()
        for name in SPLITS:
            for record in self.records.get(name, ()):
                line = f"{name} {record.file.name} {_size(record.file)} {record.label} {record.captions}\n"
                digest.update(line.encode())
        counts = {name: len(self.records.get(name, ())) for name in SPLITS}
        # Constructed without validation, which asks for shards.
        return Manifest.model_construct(
            name=self.name,
            task="zero-shot" if self.classes else "retrieval",
            classes=self.classes,
            templates=self.templates,
            splits={name: Split.model_construct(samples=count, shards=()) for name, count in counts.items()},
            content=digest.hexdigest(),
        )

    def check_files(self) -> list[str]:
        """Returns one sentence per problem, missing files included."""
        missing = [
            str(record.file) for name in SPLITS for record in self.records.get(name, ()) if not record.file.exists()
        ]
        return [*self.problems, *several([f"'{file}' is missing" for file in missing])]


def read_records(
    records: Iterable[Entry], preprocessing: Preprocessing, video: int | None
) -> tuple[list[Pixels], list[int], list[tuple[str, ...]]]:
    """Decodes records.

    Args:
        records: The samples.
        preprocessing: How images are brought to the model's size.
        video: Frames of a video; None for images.

    Returns:
        Images `(3, H, W)` (videos `(F, 3, H, W)`), labels and captions.

    Raises:
        DataError: If a file is missing or damaged.
    """
    images, labels, captions = [], [], []
    for record in records:
        images.append(_decode(record.file, preprocessing, video))
        labels.append(record.label)
        captions.append(record.captions)
    return images, labels, captions


def frame_count(config: DataConfig, listing: Listing) -> int | None:
    """Returns how many frames of a video are read; None for images."""
    return config.frames if listing.video else None


def several(problems: list[str]) -> list[str]:
    """Shortens a long list of similar problems."""
    rest = len(problems) - MANY
    return problems if rest <= 0 else [*problems[:MANY], f"and {rest} more of this kind"]


def _decode(file: Path, preprocessing: Preprocessing, video: int | None) -> Pixels:
    try:
        return fit(file.read_bytes(), preprocessing) if video is None else frames(file, video, preprocessing)
    except DAMAGE as error:
        raise DataError(f"'{file}' cannot be read: {error}") from error


def _size(file: Path) -> int:
    if file.is_dir():
        return sum(part.stat().st_size for part in sorted(file.iterdir()))
    return file.stat().st_size if file.exists() else -1
