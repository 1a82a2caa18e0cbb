"""Readers of the raw public sources: Fashion-MNIST, emoji of three vendors, and the shapes of easy-VQA.

Every reader gives 28 x 28 RGB images `(N, 28, 28, 3)` as uint8 and, for each image, a *concept*: the words that
a caption template is filled with. Licences: Fashion-MNIST MIT, Noto Emoji Apache-2.0, Twemoji CC-BY-4.0,
Fluent Emoji MIT, easy-VQA MIT.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 28
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts the original idx files."""

EMOJI_PACKAGES = {
    "google": "emoji-datasource-google@16.0.0",
    "twitter": "emoji-datasource-twitter@16.0.0",
    "fluent": "@lobehub/fluent-emoji-3d@1.1.0",
}
FASHION_CLASSES = (
    "t-shirt",
    "pair of trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
SHAPES = ("circle", "rectangle", "triangle")


@dataclass(frozen=True)
class Domain:
    """Images of one source with the concept that each shows."""

    name: str
    images: np.ndarray
    concepts: list[str]

    def select(self, keep: np.ndarray) -> Domain:
        """Returns the images whose positions `keep` lists."""
        return Domain(self.name, self.images[keep], [self.concepts[i] for i in keep])


def fashion(split: str, folder: Path = FASHION_FOLDER) -> tuple[np.ndarray, np.ndarray]:
    """Reads Fashion-MNIST (Xiao et al., 2017); `split` is `train` or `t10k`.

    Returns:
        Images `(N, 28, 28, 3)` uint8 and labels `(N,)`.

    Raises:
        SystemExit: If the files are not there.
    """
    if not (folder / f"{split}-images-idx3-ubyte.gz").exists():
        raise SystemExit(
            f"no Fashion-MNIST in {folder}; install Debian's package dataset-fashion-mnist, or name the folder of "
            "the four original .gz files with --fashion"
        )
    images = _idx(folder / f"{split}-images-idx3-ubyte.gz")
    labels = _idx(folder / f"{split}-labels-idx1-ubyte.gz")
    return np.repeat(images[..., None], 3, axis=-1), labels.astype(np.int64)


def _idx(path: Path) -> np.ndarray:
    raw = gzip.decompress(path.read_bytes())
    dimensions = raw[3]
    shape = struct.unpack(f">{dimensions}I", raw[4 : 4 + 4 * dimensions])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


@dataclass(frozen=True)
class Drawing:
    """One vendor's drawing of an emoji.

    Attributes:
        vendor: A key of `EMOJI_PACKAGES`.
        code: Code points of the emoji.
        name: Its Unicode name, such as `alarm clock`.
        shortcut: What people type for it, such as `alarm clock` or `tm`.
        image: `(28, 28, 3)`, uint8.
    """

    vendor: str
    code: str
    name: str
    shortcut: str
    image: np.ndarray

    @property
    def held_out(self) -> bool:
        """Whether pretraining leaves it out: one in five of Fluent, by the hash of the code points."""
        return self.vendor == "fluent" and digest(self.code)[0] % 5 == 0


def digest(code: str) -> bytes:
    """Hashes code points; what decides which drawings are left out, and which of them serve selection."""
    return hashlib.sha256(code.encode()).digest()


def emoji(downloads: Path) -> Domain:
    """Reads the three emoji sets, without the drawings that are held out to test retrieval on known concepts."""
    seen = [drawing for drawing in drawings(downloads, EMOJI_PACKAGES) if not drawing.held_out]
    return Domain("emoji", np.stack([drawing.image for drawing in seen]), [drawing.name for drawing in seen])


def drawings(downloads: Path, vendors: Iterable[str]) -> Iterator[Drawing]:
    """Reads vendors' drawings of named emoji; npm packages are fetched into `downloads` when they are not there."""
    names = _emoji_names(_npm(downloads, "google"))
    for vendor in vendors:
        for code, image in _emoji_images(_npm(downloads, vendor), vendor):
            if code in names:
                yield Drawing(vendor, code, *names[code], _thumbnail(image))


def _npm(downloads: Path, vendor: str) -> Path:
    package = EMOJI_PACKAGES[vendor]
    name, version = package.lstrip("@").rsplit("@", 1)
    path = downloads / f"{name.replace('/', '-')}-{version}.tgz"
    if not path.exists():
        _fetch(["npm", "pack", "--silent", package], downloads)
    return path


def _fetch(command: list[str], folder: Path) -> None:
    """Runs a package client that puts the last word of its command into a folder."""
    if shutil.which(command[0]) is None:
        raise SystemExit(f"{command[-1]} is fetched with {command[0]}, which is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(command, cwd=folder, check=True)


def _emoji_names(package: Path) -> dict[str, tuple[str, str]]:
    """Code points -> Unicode name and shortcut."""
    with tarfile.open(package) as archive:
        member = archive.extractfile("package/emoji.json")
        assert member is not None
        entries = json.load(member)
    return {
        _plain(entry["unified"]): (entry["name"].lower(), " ".join(re.split("[-_]", entry["short_name"])))
        for entry in entries
        if entry["name"]
    }


def _emoji_images(package: Path, vendor: str) -> Iterator[tuple[str, Image.Image]]:
    folder = "package/assets/" if vendor == "fluent" else f"package/img/{vendor}/64/"
    with tarfile.open(package) as archive:
        for member in archive:
            if member.name.startswith(folder) and member.name.endswith((".png", ".webp")):
                handle = archive.extractfile(member)
                assert handle is not None
                yield _plain(Path(member.name).stem), Image.open(io.BytesIO(handle.read()))


def _plain(code: str) -> str:
    """Code points without the variation selector, which vendors write differently."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def _thumbnail(image: Image.Image) -> np.ndarray:
    """Draws an image with transparency on white and scales it to 28 x 28."""
    canvas = Image.new("RGBA", image.size, "white")
    canvas.alpha_composite(image.convert("RGBA"))
    return np.asarray(canvas.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def shapes(downloads: Path) -> Domain:
    """Reads the training images of easy-VQA whose colour and shape its questions give away."""
    if not (wheels := sorted(downloads.glob("easy_vqa-*.whl"))):
        _fetch([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "easy-vqa==1.0"], downloads)
        wheels = sorted(downloads.glob("easy_vqa-*.whl"))
    images, concepts = [], []
    with zipfile.ZipFile(wheels[-1]) as wheel:
        questions = json.loads(wheel.read("easy_vqa/data/train/questions.json"))
        for index, concept in sorted(_shape_concepts(questions).items()):
            image = Image.open(io.BytesIO(wheel.read(f"easy_vqa/data/train/images/{index}.png")))
            images.append(_thumbnail(image))
            concepts.append(concept)
    return Domain("shapes", np.stack(images), concepts)


def _shape_concepts(questions: list[tuple[str, str, int]]) -> dict[int, str]:
    colours: dict[int, str] = {}
    forms: dict[int, str] = {}
    for question, answer, index in questions:
        if answer in SHAPES:
            forms[index] = answer
        elif question.startswith("what"):
            colours[index] = answer
    return {index: f"{colours[index]} {forms[index]}" for index in colours.keys() & forms.keys()}
