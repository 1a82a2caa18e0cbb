"""What can be found to be wrong with a data set before any compute starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from advlora.config import DataConfig
from advlora.data.layouts import layout_of, listing, load_manifest
from advlora.data.manifest import Manifest, data_folder
from advlora.data.shards import read_shard, shard_captions
from advlora.errors import DataError


def check_data(config: DataConfig) -> list[str]:
    """Checks what describes the data set, number of training samples, and presence of every local file.

    Shards are also checked against their hashes; remote ones when they are read.

    Returns:
        One sentence per problem.
    """
    try:
        if layout_of(config) != "shards" and (problems := listing(config).check_files()):
            return problems
        manifest = load_manifest(config)
    except DataError as error:
        return error.problems
    problems = [*too_many_samples(config, manifest), *wrong_target(config, manifest)]
    return problems + (bad_shards(manifest, data_folder(config)) if layout_of(config) == "shards" else [])


def equal_captions(config: DataConfig) -> dict[str, int]:
    """Counts the captions of a data set for retrieval that another image of their split has too.

    Such a caption is a right answer to every image that has it. Remote shards are not read.

    Returns:
        Split -> how many of its captions.

    Raises:
        DataError: If the data set is missing or damaged.
    """
    if load_manifest(config).task != "retrieval":
        return {}
    return {name: _shared(captions) for name, captions in _captions(config)}


def _captions(config: DataConfig) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Yields splits and the captions of each of their samples."""
    if layout_of(config) != "shards":
        for name, records in listing(config).records.items():
            yield name, [record.captions for record in records]
        return
    manifest, folder = load_manifest(config), data_folder(config)
    for name, split in manifest.splits.items():
        local = [shard for shard in split.shards if not shard.remote]
        yield name, [own for shard in local for own in shard_captions(shard, read_shard(shard, folder), manifest)]


def _shared(captions: list[tuple[str, ...]]) -> int:
    owners = Counter(caption for own in captions for caption in set(own))
    return sum(owners[caption] > 1 for own in captions for caption in own)


def bad_shards(manifest: Manifest, folder: Path) -> list[str]:
    """Says which local shards are missing or do not match their hash."""
    problems: list[str] = []
    for shard in (shard for split in manifest.splits.values() for shard in split.shards if not shard.remote):
        try:
            read_shard(shard, folder)
        except DataError as error:
            problems += error.problems
    return problems


def too_many_samples(config: DataConfig, manifest: Manifest) -> list[str]:
    """Says whether more training samples are asked for than there are."""
    there = manifest.splits["train"].samples
    if config.train_samples is None or config.train_samples <= there:
        return []
    return [f"data.train_samples: {config.train_samples} is more than the {there} of data set '{manifest.name}'"]


def wrong_target(config: DataConfig, manifest: Manifest) -> list[str]:
    """Says whether the target of a backdoor is no class of the data set."""
    if config.poison.kind == "none" or config.poison.target in manifest.classes:
        return []
    known = ", ".join(manifest.classes[:10]) or "none, for it is made for retrieval"
    return [f"data.poison.target: '{config.poison.target}' is no class of data set '{manifest.name}'; classes: {known}"]
