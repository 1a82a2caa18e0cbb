"""Sets of image folders, as people have them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from advlora.config import DataConfig

SPLITS = ("train", "val", "test")


def image(path: Path | str, seed: int = 0) -> None:
    """Saves an image that no other seed makes."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    with open(path, "wb") as stream:
        Image.fromarray(pixels).save(stream, format="PNG")


def class_folders(folder: Path, classes: Iterable[str] = ("cat", "dog"), count: int = 2) -> Path:
    """Makes `SPLIT/CLASS/NNNN.png`, no image twice, and `prompts.txt`."""
    seed = 0
    for split in SPLITS:
        for name in classes:
            for number in range(count):
                seed += 1
                image(folder / split / name / f"{number:04d}.png", seed)
    (folder / "prompts.txt").write_text("a photo of a {}\n")
    return folder


def of(folder: Path, **values: object) -> DataConfig:
    return DataConfig(name=str(folder), layout="folders", **values)
