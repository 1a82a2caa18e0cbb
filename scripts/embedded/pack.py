"""Packs the shipped Fashion-MNIST splits as WebDataset shards (`.png`, `.txt`, `.cls` per sample).

The same bytes come out of every run: the order is drawn from a fixed seed and no file time is written.

Usage:
    python -m scripts.embedded.pack --out advlora/embedded/fashion-mnist
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.embedded import sources, splits
from scripts.embedded.captions import TEMPLATES

SHARD_SIZE = 5_000


def members(images: np.ndarray, labels: np.ndarray, first: int) -> Iterator[tuple[str, bytes]]:
    """Yields the files of each sample; the caption is a template filled with the class name."""
    templates = TEMPLATES["fashion"]
    for offset, (image, label) in enumerate(zip(images, labels, strict=True)):
        key = f"{first + offset:06d}"
        buffer = io.BytesIO()
        Image.fromarray(image[..., 0]).save(buffer, format="PNG", optimize=True)
        caption = templates[(first + offset) % len(templates)].format(sources.FASHION_CLASSES[label])
        yield f"{key}.cls", str(label).encode()
        yield f"{key}.png", buffer.getvalue()
        yield f"{key}.txt", caption.encode()


def write_shard(path: Path, files: Iterator[tuple[str, bytes]]) -> str:
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


def pack_split(
    name: str, images: np.ndarray, labels: np.ndarray, out: Path, rng: np.random.Generator
) -> dict[str, object]:
    """Writes the shards of one split in a shuffled order, so that any prefix is a fair sample."""
    order = rng.permutation(len(images))
    shards = []
    for start in range(0, len(order), SHARD_SIZE):
        rows = order[start : start + SHARD_SIZE]
        file = f"{name}-{start // SHARD_SIZE:06d}.tar.gz"
        digest = write_shard(out / file, members(images[rows], labels[rows], start))
        shards.append({"url": file, "samples": len(rows), "sha256": digest})
    return {"samples": len(order), "shards": shards}


def main() -> None:
    """Packs train, val and test and writes the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("advlora/embedded/fashion-mnist"))
    parser.add_argument("--fashion", type=Path, default=sources.FASHION_FOLDER)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    images, labels = sources.fashion("train", arguments.fashion)
    test_images, test_labels = sources.fashion("t10k", arguments.fashion)
    parts = {
        "train": (images[splits.TRAIN], labels[splits.TRAIN]),
        "val": (images[splits.VAL], labels[splits.VAL]),
        "test": (test_images[splits.TEST], test_labels[splits.TEST]),
    }
    manifest = {
        "name": "fashion-mnist",
        "task": "zero-shot",
        "licence": "MIT",
        "source": "Xiao, Rasul, Vollgraf: Fashion-MNIST (2017); captions are templates",
        "classes": list(sources.FASHION_CLASSES),
        "templates": list(TEMPLATES["fashion"]),
        "splits": {name: pack_split(name, *part, arguments.out, rng) for name, part in parts.items()},
    }
    (arguments.out / "dataset.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
