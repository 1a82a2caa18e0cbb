"""Packs the shipped Fashion-MNIST splits as WebDataset shards (`.png`, `.txt`, `.cls` per sample).

Usage:
    python -m scripts.embedded.pack --out advlora/embedded/fashion-mnist
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from scripts.embedded import sources, splits
from scripts.embedded.archive import File, pack_split, png, write_manifest
from scripts.embedded.captions import TEMPLATES


def members(images: np.ndarray, labels: np.ndarray, rows: np.ndarray, first: int) -> Iterator[File]:
    """Yields the files of each sample; the caption is a template filled with the class name."""
    templates = TEMPLATES["fashion"]
    for place, row in enumerate(rows, first):
        caption = templates[place % len(templates)].format(sources.FASHION_CLASSES[labels[row]])
        yield f"{place:06d}.cls", str(labels[row]).encode()
        yield f"{place:06d}.png", png(images[row][..., 0])
        yield f"{place:06d}.txt", caption.encode()


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
        "shuffled": True,
        "splits": {
            name: pack_split(name, len(images), partial(members, images, labels), arguments.out, rng)
            for name, (images, labels) in parts.items()
        },
    }
    write_manifest(arguments.out, manifest)


if __name__ == "__main__":
    main()
