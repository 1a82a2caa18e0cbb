"""Images in a folder per class, and a file of prompts: how zero-shot sets usually lie on disk."""

from __future__ import annotations

import json
from pathlib import Path

from advlora.data.manifest import SPLITS
from advlora.data.records import Entry, Listing
from advlora.errors import DataError

PROMPTS, CLASSES = "prompts.txt", "classes.json"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def folders(folder: Path) -> Listing:
    """Lists `SPLIT/CLASS/IMAGE` for the splits that are there, with `prompts.txt` next to them.

    Every line of `prompts.txt` holds `{}` for the name of the class. `classes.json` may name classes whose folders
    have codes: `{"n01440764": "tench"}`; otherwise the folder's name counts, `_` read as a space.

    Raises:
        DataError: If there is no split, or a file is not readable.
    """
    present = [name for name in SPLITS if (folder / name).is_dir()]
    if not present:
        raise DataError(f"folder '{folder}' holds none of {', '.join(SPLITS)}, which layout 'folders' needs")
    codes = sorted({part.name for name in present for part in (folder / name).iterdir() if part.is_dir()})
    names, problems = _names(folder, codes)
    templates, wrong = _prompts(folder)
    problems += wrong
    records = {}
    for split in present:
        records[split] = tuple(
            Entry(file, ((*templates, "{}")[0].replace("{}", names[label]),), label)
            for label, code in enumerate(codes)
            for file in _images(folder / split / code)
        )
        problems += [] if records[split] else [f"split '{split}' of '{folder}' holds no image"]
    if len(codes) < 2:
        problems.append(f"folder '{folder}' holds {len(codes)} classes, at least two are needed")
    return Listing(folder.name, records, tuple(names), templates, problems=tuple(problems))


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)


def _names(folder: Path, codes: list[str]) -> tuple[list[str], list[str]]:
    file = folder / CLASSES
    if not file.is_file():
        return [code.replace("_", " ") for code in codes], []
    try:
        given = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is not readable JSON: {error}") from error
    if not isinstance(given, dict):
        raise DataError(f"{file} must hold a mapping of folders to names")
    unnamed = [f"{CLASSES}: folder '{code}' has no name" for code in codes if code not in given]
    return [str(given.get(code, code)) for code in codes], unnamed


def _prompts(folder: Path) -> tuple[tuple[str, ...], list[str]]:
    file = folder / PROMPTS
    if not file.is_file():  # the configuration may name templates
        return (), []
    lines = tuple(line.strip() for line in file.read_text().splitlines() if line.strip())
    if not lines:
        raise DataError(f"{file} holds no prompt, such as 'a photo of a {{}}'")
    return lines, [f"{PROMPTS}: '{line}' must hold {{}} exactly once" for line in lines if line.count("{}") != 1]
