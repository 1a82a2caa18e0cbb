"""What can be found to be wrong with a data set before any compute starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import PIL

from advlora.config import DataConfig
from advlora.data.examination import Examined, examine, forget
from advlora.data.layouts import forget_listings, layout_of, listing
from advlora.data.manifest import Manifest, Shard, data_folder, read_manifest
from advlora.data.names import named
from advlora.data.parallel import cores
from advlora.data.pixels import opened
from advlora.data.remote import missing_package
from advlora.data.shards import decode_shard, read_shard
from advlora.errors import DataError
from advlora.shelves import embedded_data


def check_data(config: DataConfig, splits: Sequence[str] = (), reopen: bool = False) -> list[str]:
    """Checks what describes the data set, every local file of it, and what is asked of it.

    Every image is decoded, and the frames of every video that a trial reads; files that were found readable before and
    have not changed are not opened again. Remote shards are checked when they are read.

    Args:
        config: The data set.
        splits: What is needed of `train`, `val` and `test`.
        reopen: Whether files that were found readable are opened again.

    Returns:
        One sentence per problem.
    """
    try:
        manifest, problems = _shards(config, reopen) if layout_of(config) == "shards" else _listed(config, reopen)
    except DataError as error:
        return error.problems
    try:
        manifest = named(manifest, config)
    except DataError as error:
        problems = error.problems + problems
    asked = [*missing_splits(manifest, splits), *too_many_samples(config, manifest), *wrong_target(config, manifest)]
    return asked + problems


def _listed(config: DataConfig, reopen: bool) -> tuple[Manifest, list[str]]:
    if reopen:
        listing(config).forget()
        forget_listings()
    found = listing(config)
    return found.manifest, found.check_files()


def _shards(config: DataConfig, reopen: bool) -> tuple[Manifest, list[str]]:
    if reopen:
        forget_listings()
    manifest, folder = read_manifest(config), data_folder(config)
    remote = [shard.url for split in manifest.splits.values() for shard in split.shards if shard.remote]
    of_scheme = {url.partition("://")[0]: url for url in remote}
    missing = [problem for url in of_scheme.values() if (problem := missing_package(url))]
    return manifest, missing + bad_shards(manifest, folder, pinned=config.name in embedded_data(), reopen=reopen)


def bad_shards(manifest: Manifest, folder: Path, pinned: bool = False, reopen: bool = False) -> list[str]:
    """Says which local shards are missing, do not match their hash, or hold a sample that cannot be read.

    Args:
        manifest: The data set.
        folder: Where it lies.
        pinned: Whether the hashes alone say that the samples can be read.
        reopen: Whether shards that were found sound are opened again.
    """
    shards = {
        folder / shard.url: shard for split in manifest.splits.values() for shard in split.shards if not shard.remote
    }
    kind = f"shards {manifest.hash} {PIL.__version__}"
    if reopen:
        forget(folder, kind)

    def look(file: Path) -> Examined:
        return _sound(shards[file], folder, manifest, pinned)

    # One shard at a time, its samples in parallel: a shard may be as large as the memory allows.
    return [found.problem for found in examine(folder, kind, [*shards], look, threads=1) if found.problem]


def _sound(shard: Shard, folder: Path, manifest: Manifest, pinned: bool) -> Examined:
    """Decodes every sample of a shard.

    Raises:
        DataError: If one cannot be read.
    """
    content = read_shard(shard, folder)
    if not pinned:
        for _ in decode_shard(shard, content, manifest, lambda image: opened(image).size, threads=cores()):
            pass
    return Examined(shard.sha256)


def missing_splits(manifest: Manifest, splits: Sequence[str]) -> list[str]:
    """Says which of the splits that are needed have no samples."""
    there = [name for name, split in manifest.splits.items() if split.samples]
    return [
        f"data set '{manifest.name}' has no split '{name}', which is needed here; it has {', '.join(there) or 'none'}"
        for name in splits
        if name not in there
    ]


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
