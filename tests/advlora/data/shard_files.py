from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def image_bytes(array: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format=kind, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


def grey(value: int, size: int = 8) -> bytes:
    return image_bytes(np.full((size, size), value, np.uint8))


def write_shard(path: Path, samples: list[dict[str, bytes]], mode: str = "w") -> dict[str, object]:
    with tarfile.open(path, mode) as archive:
        for number, sample in enumerate(samples):
            for suffix, content in sample.items():
                header = tarfile.TarInfo(f"{number:04d}.{suffix}")
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
    return {"url": path.name, "samples": len(samples), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


class Folder:
    """A small data set on disk whose manifest a test can edit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        train = [
            {"png": grey(10 * i), "cls": str(i % 2).encode(), "txt": f"caption {i}".encode()} for i in range(6)
        ]  # fmt: skip
        shards = {
            "train": [write_shard(path / "a.tar", train[:4]), write_shard(path / "b.tar.gz", train[4:], "w:gz")],
            "val": [write_shard(path / "val.tar", train[:1])],
            "test": [write_shard(path / "test.tar", train[1:2])],
        }
        self.manifest = {
            "name": "tiny",
            "shuffled": True,
            "classes": ["cat", "dog"],
            "templates": ["a {}", "one {}"],
            "splits": {
                name: {"samples": sum(shard["samples"] for shard in parts), "shards": parts}
                for name, parts in shards.items()
            },
        }
        self.save()

    def save(self) -> None:
        (self.path / "dataset.json").write_text(json.dumps(self.manifest))

    def replace_val(self, samples: list[dict[str, bytes]]) -> None:
        shard = write_shard(self.path / "val.tar", samples)
        self.manifest["splits"]["val"] = {"samples": len(samples), "shards": [shard]}
        self.save()

    def pin(self, name: str) -> None:
        """Writes the present hash of a shard into the manifest, as if its bytes had always been so."""
        digest = hashlib.sha256((self.path / name).read_bytes()).hexdigest()
        for split in self.manifest["splits"].values():
            for shard in split["shards"]:
                if shard["url"] == name:
                    shard["sha256"] = digest
        self.save()
