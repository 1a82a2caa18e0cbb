"""Packs emoji as a set for retrieval: WebDataset shards with a `.png` and a `.txt` of several captions per sample.

`train` holds drawings that the embedded model was pretrained on (Noto, four in five of Fluent). `val` and `test` hold
the Fluent drawings that pretraining left out, so retrieval is tested on unseen drawings of known concepts.

Usage:
    python -m scripts.embedded.pack_emoji --downloads build/downloads --out advlora/embedded/emoji
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from scripts.embedded.archive import File, pack_split, png, write_manifest
from scripts.embedded.captions import TEMPLATES
from scripts.embedded.sources import Drawing, digest, drawings

VENDORS = ("google", "fluent")


def captions(drawing: Drawing) -> list[str]:
    """Returns the name in every wording of pretraining, and the shortcut where it says something else."""
    worded = [template.format(drawing.name) for template in TEMPLATES["emoji"]]
    return worded if drawing.shortcut == drawing.name else [*worded, drawing.shortcut]


def split_of(drawing: Drawing) -> str:
    """Returns `train` for what pretraining saw; a third of what it did not see selects, the rest reports."""
    if not drawing.held_out:
        return "train"
    return "val" if digest(drawing.code)[1] % 3 == 0 else "test"


def members(found: list[Drawing], rows: np.ndarray, first: int) -> Iterator[File]:
    """Yields the files of each sample, one caption a line."""
    for place, row in enumerate(rows, first):
        yield f"{place:06d}.png", png(found[row].image)
        yield f"{place:06d}.txt", "\n".join(captions(found[row])).encode()


def main() -> None:
    """Packs train, val and test and writes the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--downloads", type=Path, default=Path("build/downloads"))
    parser.add_argument("--out", type=Path, default=Path("advlora/embedded/emoji"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    parts: dict[str, list[Drawing]] = {"train": [], "val": [], "test": []}
    for drawing in drawings(arguments.downloads, VENDORS):
        parts[split_of(drawing)].append(drawing)
    manifest = {
        "name": "emoji",
        "task": "retrieval",
        "licence": "Apache-2.0 (Noto Emoji), MIT (Fluent Emoji, names)",
        "source": "Noto Emoji by Google, Fluent Emoji by Microsoft, names by emoji-data",
        "shuffled": True,
        "splits": {
            name: pack_split(name, len(found), partial(members, found), arguments.out, rng)
            for name, found in parts.items()
        },
    }
    write_manifest(arguments.out, manifest)


if __name__ == "__main__":
    main()
