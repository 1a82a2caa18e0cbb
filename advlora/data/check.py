"""Everything about a data set that can be known to be wrong before any compute starts."""

from __future__ import annotations

from advlora.config import DataConfig
from advlora.data.manifest import Manifest, data_folder, load_manifest
from advlora.data.shards import read_shard
from advlora.errors import DataError


def check_data(config: DataConfig) -> list[str]:
    """Checks manifest, number of training samples, and presence and hash of every local shard.

    Returns:
        One sentence per problem; remote shards are checked when they are read.
    """
    try:
        manifest, folder = load_manifest(config), data_folder(config)
    except DataError as error:
        return error.problems
    problems = too_many_samples(config, manifest)
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
