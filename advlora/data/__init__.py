"""Data sets: a manifest that says what there is, and WebDataset shards that hold it."""

from advlora.data.check import check_data
from advlora.data.manifest import Manifest, Shard, Split, embedded_data, load_manifest
from advlora.data.shards import ImageTextSet, load_split

__all__ = ["ImageTextSet", "Manifest", "Shard", "Split", "check_data", "embedded_data", "load_manifest", "load_split"]
