"""What a data set holds, for people who have not made it: classes, doubles, and what was left out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from advlora.config import DataConfig
from advlora.data.files import same_names
from advlora.data.layouts import layout_of, listing, load_manifest
from advlora.data.manifest import data_folder
from advlora.data.shards import decode_shard, read_shard

Sample = tuple[str, int, tuple[str, ...]]
"""Hash of the image's file, label, captions."""


@dataclass(frozen=True)
class SplitSummary:
    """What is known of a split.

    Attributes:
        samples: How many there are.
        read: How many of them were looked at: those of remote shards are not.
        counts: Class -> samples, of those that were read; empty for retrieval.
        in_training: Samples whose image, to the byte, is also one of the training images; 0 for `train`.
        repeated: Samples whose image is also that of an earlier one of this split.
        equal_captions: Captions that another image of this split has too; such a one is right for both.
    """

    samples: int
    read: int
    counts: dict[str, int]
    in_training: int
    repeated: int
    equal_captions: int

    @property
    def classes_seen(self) -> int:
        """How many classes have a sample."""
        return sum(count > 0 for count in self.counts.values())


@dataclass(frozen=True)
class Summary:
    """What a data set holds.

    Attributes:
        name: Its name.
        task: `zero-shot` or `retrieval`.
        splits: Split -> what is known of it.
        left_out: Files and folders that are no samples.
        equal_names: Names that several classes of a published list have; the text tower cannot tell these apart.
    """

    name: str
    task: str
    splits: dict[str, SplitSummary]
    left_out: tuple[str, ...]
    equal_names: tuple[str, ...] = ()


def summarise(config: DataConfig) -> Summary:
    """Reads all local samples of a data set; images are compared, not decoded.

    Raises:
        DataError: If the data set is missing or damaged.
    """
    manifest, samples = load_manifest(config), dict(_samples(config))
    training = {digest for digest, _, _ in samples.get("train", ())}
    equal = same_names(manifest.classes)
    names = _told_apart(manifest.classes, equal)
    splits = {
        name: _summary(split.samples, samples.get(name, []), names, training if name != "train" else frozenset())
        for name, split in manifest.splits.items()
    }
    left_out = () if layout_of(config) == "shards" else listing(config).left_out
    equal_names = tuple(manifest.classes[group[0]] for group in equal)
    return Summary(manifest.name, manifest.task, splits, left_out, equal_names)


def _told_apart(classes: tuple[str, ...], equal: list[list[int]]) -> tuple[str, ...]:
    """Returns names of which none is there twice: those that would be get the number of their class."""
    shared = {place for group in equal for place in group}
    return tuple(f"{name} ({label})" if label in shared else name for label, name in enumerate(classes))


def _summary(
    there: int, samples: list[Sample], classes: tuple[str, ...], training: set[str] | frozenset[str]
) -> SplitSummary:
    labels = Counter(label for _, label, _ in samples)
    digests = [digest for digest, _, _ in samples]
    owners = Counter(caption for _, _, own in samples for caption in set(own))
    return SplitSummary(
        samples=there,
        read=len(samples),
        counts={name: labels[label] for label, name in enumerate(classes)},
        in_training=sum(digest in training for digest in digests),
        repeated=len(digests) - len(set(digests)),
        equal_captions=0 if classes else sum(owners[caption] > 1 for _, _, own in samples for caption in own),
    )


def _samples(config: DataConfig) -> Iterator[tuple[str, list[Sample]]]:
    """Yields splits and their samples."""
    if layout_of(config) != "shards":
        found = listing(config)
        for name, files in found.examined.items():
            records = zip(files, found.records[name], strict=True)
            yield name, [(file.digest, record.label, record.captions) for file, record in records]
        return
    manifest, folder = load_manifest(config), data_folder(config)
    for name, split in manifest.splits.items():
        local = [shard for shard in split.shards if not shard.remote]
        yield (
            name,
            [each for shard in local for each in decode_shard(shard, read_shard(shard, folder), manifest, _hash)],
        )


def _hash(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()
