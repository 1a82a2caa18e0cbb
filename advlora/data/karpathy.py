"""Karpathy's splits of Flickr30k and MSCOCO (Karpathy & Fei-Fei 2015): one JSON file next to the images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from advlora.data.files import read_json
from advlora.data.records import Entry, Listing, several
from advlora.errors import DataError

SPLIT_NAMES = {"train": "train", "restval": "train", "val": "val", "test": "test"}
"""Name in the file -> split; MSCOCO's `restval` is added to the training set, as is customary."""
ROOTS = ("", "images", "flickr30k-images", "flickr30k_images")


def karpathy(folder: Path) -> Listing:
    """Lists a folder that holds `dataset_*.json` (or `dataset.json`) and images.

    Images lie below the folder or below `images/`, `flickr30k-images/`; MSCOCO's in `train2014/` and `val2014/` there.

    Raises:
        DataError: If there is no such file, or it is not readable.
    """
    file = _description(folder)
    content = _content(file)
    records: dict[str, list[Entry]] = {"train": [], "val": [], "test": []}
    problems = []
    for number, entry in enumerate(content["images"]):
        try:
            split, record = _record(folder, entry)
        except (KeyError, TypeError, AttributeError) as error:
            problems.append(f"{file.name}: image {number} lacks {error}")
        except ValueError as error:
            problems.append(f"{file.name}: image {number} {error}")
        else:
            records[split].append(record)
    empty = [f"{file.name}: split '{name}' holds no image" for name, found in records.items() if not found]
    found = {name: tuple(entries) for name, entries in records.items()}
    return Listing(str(content.get("dataset", folder.name)), found, problems=(*several(problems), *empty))


def _description(folder: Path) -> Path:
    files = sorted(folder.glob("dataset*.json"))
    if len(files) != 1:
        raise DataError(
            f"folder '{folder}' holds {len(files)} files dataset*.json, but layout 'karpathy' needs exactly one, "
            f"such as dataset_flickr30k.json"
        )
    return files[0]


def _content(file: Path) -> dict[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise DataError(f"{file} holds no list 'images'")
    return content


def _record(folder: Path, entry: dict[str, Any]) -> tuple[str, Entry]:
    captions = tuple(caption for sentence in entry["sentences"] if (caption := sentence["raw"].strip()))
    if not captions:
        raise ValueError("has no caption")
    if entry["split"] not in SPLIT_NAMES:
        raise ValueError(f"has split '{entry['split']}', known are {', '.join(SPLIT_NAMES)}")
    name = entry["filename"]
    places = [Path(entry["filepath"], name), Path(name)] if "filepath" in entry else [Path(name)]
    for place in places:
        if place.is_absolute() or ".." in place.parts:
            raise ValueError(f"names a file outside the folder: '{place}'")
    candidates = [folder / root / place for root in ROOTS for place in places]
    file = next((candidate for candidate in candidates if candidate.is_file()), candidates[0])
    return SPLIT_NAMES[entry["split"]], Entry(file, captions)
