"""Data sets: what there is, and how its shards, images and videos become tensors."""

from advlora.data.check import check_data, equal_captions
from advlora.data.layouts import load_manifest
from advlora.data.load import load_split
from advlora.data.manifest import Manifest, Shard, Split
from advlora.data.shards import ImageTextSet
from advlora.shelves import embedded_data

__all__ = [
    "ImageTextSet",
    "Manifest",
    "Shard",
    "Split",
    "check_data",
    "embedded_data",
    "equal_captions",
    "load_manifest",
    "load_split",
]
