"""A split as a stream of samples: every shard is read by one worker of one process, and nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from advlora.config import DataConfig
from advlora.data.manifest import data_folder, read_manifest
from advlora.data.shards import decode_shard, read_shard
from advlora.distributed import SOLO, Group
from advlora.randomness import generator

Sample = tuple[np.ndarray[Any, Any], int, tuple[str, ...]]


class ShardStream(IterableDataset[Sample]):
    """For sets that no memory holds. Shards, local or remote, are dealt to processes and then to loader workers.

    Iterating yields image `(3, H, W)` uint8, label and captions. The order of the shards belongs to seed and epoch; it
    is the same everywhere, so every sample is read exactly once per epoch, however many processes and workers there
    are.
    """

    def __init__(
        self, config: DataConfig, split: str, image_size: int, *, seed: int, epoch: int, group: Group = SOLO
    ) -> None:
        """Takes what `load_split` takes, and the process's place in its group.

        Raises:
            DataError: If the data set is unknown, or its manifest is malformed.
        """
        self.manifest, self.folder = read_manifest(config), data_folder(config)
        self.size = image_size
        shards = self.manifest.splits[split].shards
        order = torch.randperm(len(shards), generator=generator(seed, "shards", epoch)).tolist()
        self.shards = [shards[place] for place in order][group.rank :: group.world_size]

    def __iter__(self) -> Iterator[Sample]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        for shard in self.shards[worker::workers]:
            yield from decode_shard(shard, read_shard(shard, self.folder), self.manifest, self.size)
