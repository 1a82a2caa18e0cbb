"""WebDataset shards whose bytes are the same in every run: seeded order, no file times, no owners."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SHARD_SIZE = 5_000

File = tuple[str, bytes]
Members = Callable[[np.ndarray, int], Iterator[File]]
"""From rows and the number of the first of them in the split to the files of these samples."""


def png(image: np.ndarray) -> bytes:
    """Encodes an image without loss."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def write_shard(path: Path, files: Iterator[File]) -> str:
    """Writes one compressed tar and returns its SHA-256."""
    archive_bytes = io.BytesIO()
    with tarfile.open(fileobj=archive_bytes, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    compressed = gzip.compress(archive_bytes.getvalue(), compresslevel=9, mtime=0)
    path.write_bytes(compressed)
    return hashlib.sha256(compressed).hexdigest()


def pack_split(name: str, count: int, members: Members, out: Path, rng: np.random.Generator) -> dict[str, object]:
    """Writes the shards of one split in a shuffled order, so that any prefix is a fair sample."""
    order = rng.permutation(count)
    shards = []
    for start in range(0, count, SHARD_SIZE):
        rows = order[start : start + SHARD_SIZE]
        file = f"{name}-{start // SHARD_SIZE:06d}.tar.gz"
        digest = write_shard(out / file, members(rows, start))
        shards.append({"url": file, "samples": len(rows), "sha256": digest})
    return {"samples": count, "shards": shards}


def write_manifest(out: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the `dataset.json` beside the shards."""
    (out / "dataset.json").write_text(json.dumps(manifest, indent=2) + "\n")
