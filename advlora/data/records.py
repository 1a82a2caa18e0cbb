"""Data sets in the folders that others publish: records of files, and how records become tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL

from advlora.data.examination import Examined, examine, forget, hashed
from advlora.data.files import composed, shown
from advlora.data.manifest import SPLITS, Manifest, Split
from advlora.data.order import drawn
from advlora.data.parallel import cores, in_parallel
from advlora.data.parts import Samples
from advlora.data.pixels import DAMAGE, fit, fit_image, opened
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
        records: Split -> its samples; in the order of their draw once the listing is `drawn`.
        classes: Names; empty for retrieval.
        templates: Captions of a class; empty for retrieval.
        video: Whether the records are videos.
        frames: How many frames of a video are read.
        problems: One sentence per problem.
        left_out: Files and folders that are no samples: hidden, of a tool, or of another kind.
        folder: Where it lies.
    """

    name: str
    records: dict[str, tuple[Entry, ...]]
    classes: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    video: bool = False
    frames: int = 1
    problems: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    folder: Path = Path()

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest; its content is identified by captions, file names and the content of files, in order."""
        digest = hashlib.sha256()
        for name, found in self.examined.items():
            for record, file in zip(self.records[name], found, strict=True):
                line = f"{name} {shown(record.file.name)} {file.digest} {record.label} {record.captions}\n"
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

    @property
    def frame_count(self) -> int | None:
        """How many frames of a video are read; None for images."""
        return self.frames if self.video else None

    @cached_property
    def examined(self) -> dict[str, list[Examined]]:
        """What was found in the file of every sample: split -> in the order of its records."""
        splits = {name: found for name in SPLITS if (found := self.records.get(name, ()))}
        files = [record.file for records in splits.values() for record in records]
        look = partial(_look, video=self.frame_count)
        results = iter(examine(self.folder, self._kind, files, look, cores()))
        return {name: [next(results) for _ in records] for name, records in splits.items()}

    @property
    def _kind(self) -> str:
        return f"{self.frame_count or 'images'} {PIL.__version__}"

    def forget(self) -> None:
        """Makes the next look at `examined`, of a listing that is made after this call, open every file."""
        forget(self.folder, self._kind)

    def check_files(self) -> list[str]:
        """Returns one sentence per problem, files that cannot be read included."""
        unread = [file.problem for found in self.examined.values() for file in found if file.problem]
        return [*self.problems, *several(unread)]

    def drawn(self) -> Listing:
        """Returns the listing with the samples of every split in the order of their draw."""
        return replace(self, records={name: self._drawn(records) for name, records in self.records.items()})

    def _drawn(self, records: tuple[Entry, ...]) -> tuple[Entry, ...]:
        owners = self.classes or ("",)
        names = [f"{owners[record.label]}/{composed(shown(record.file.name))}" for record in records]
        return tuple(records[place] for place in drawn([record.label for record in records], names))


def read_records(records: Sequence[Entry], preprocessing: Preprocessing, video: int | None, threads: int) -> Samples:
    """Decodes records.

    Args:
        records: The samples.
        preprocessing: How images are brought to the model's size.
        video: Frames of a video; None for images.
        threads: How many are decoded at once.

    Returns:
        Images `(3, H, W)` (videos `(F, 3, H, W)`), labels and captions.

    Raises:
        DataError: If a file is missing or damaged.
    """
    images = list(in_parallel(lambda record: _decode(record.file, preprocessing, video), records, threads))
    return images, [record.label for record in records], [record.captions for record in records]


def several(problems: list[str]) -> list[str]:
    """Shortens a long list of similar problems."""
    rest = len(problems) - MANY
    return problems if rest <= 0 else [*problems[:MANY], f"and {rest} more of this kind"]


def _decode(file: Path, preprocessing: Preprocessing, video: int | None) -> Pixels:
    with _named(file):
        if video is None:
            return fit(file.read_bytes(), preprocessing)
        return np.stack(frames(file, video, lambda image: fit_image(image, preprocessing)))


def _look(file: Path, video: int | None) -> Examined:
    """Decodes an image, or the frames of a video that a trial reads."""
    with _named(file):
        if video is None:
            content = file.read_bytes()
            opened(content)
            return Examined(hashlib.sha256(content).hexdigest())
        frames(file, video, lambda image: image.size)
        return Examined(hashed(file))


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Names the file of what goes wrong inside."""
    try:
        yield
    except DAMAGE as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"'{shown(file)}' cannot be read: {reason}") from error
