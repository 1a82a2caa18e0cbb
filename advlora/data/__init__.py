"""Data sets: what there is, and how its shards, images and videos become tensors."""

from advlora.data.check import check_data
from advlora.data.layouts import load_manifest
from advlora.data.load import load_split
from advlora.data.manifest import Manifest, Shard, Split
from advlora.data.shards import ImageTextSet
from advlora.data.summary import Summary, summarise
from advlora.shelves import embedded_data

__all__ = [
    "ImageTextSet",
    "Manifest",
    "Shard",
    "Split",
    "Summary",
    "check_data",
    "embedded_data",
    "load_manifest",
    "load_split",
    "summarise",
]
