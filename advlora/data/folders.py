"""Images in a folder per class, and a file of prompts: how zero-shot sets usually lie on disk."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from advlora.data.files import IMAGE_SUFFIXES, composed, of_a_tool, read_json, read_text, readable, same_names, shown
from advlora.data.records import Entry, Listing, several
from advlora.errors import DataError

PROMPTS, CLASSES = "prompts.txt", "classes.json"
SPLIT_FOLDERS = {
    **{"train": "train", "training": "train"},
    **{"val": "val", "valid": "val", "validation": "val"},
    **{"test": "test", "testing": "test"},
}
"""Name of a folder, in whatever case -> its split."""


def folders(folder: Path) -> Listing:
    """Lists `SPLIT/CLASS/IMAGE` for the splits that are there, with `prompts.txt` next to them.

    Every line of `prompts.txt` holds `{}` for the name of the class. `classes.json` may name classes whose folders
    have codes: `{"n01440764": "tench"}`; otherwise the folder's name counts, `_` read as a space.

    Raises:
        DataError: If there is no split, or a file is not readable.
    """
    places = split_folders(folder)
    if not places:
        known = ", ".join(sorted(set(SPLIT_FOLDERS.values()), key=list(SPLIT_FOLDERS.values()).index))
        raise DataError(f"folder '{folder}' holds none of {known}, which layout 'folders' needs")
    scan = _Scan(folder)
    found = {split: _images_of_split(split, parts, scan) for split, parts in places.items()}
    codes = sorted({code for images in found.values() for code in images})
    names, wrong_names = _names(folder, codes)
    templates, wrong_prompts = prompts(folder)
    labels = {code: label for label, code in enumerate(codes)}
    records = {
        split: tuple(
            Entry(file, ((*templates, "{}")[0].replace("{}", names[labels[code]]),), labels[code])
            for code in sorted(images)
            for file in images[code]
        )
        for split, images in found.items()
    }
    problems = [*wrong_names, *wrong_prompts, *scan.problems(), *_empty(folder, codes, found)]
    return Listing(folder.name, records, tuple(names), templates, problems=tuple(problems), left_out=tuple(scan.left))


def split_folders(folder: Path) -> dict[str, list[Path]]:
    """Returns split -> its folders: one, unless the data set holds both `val` and `valid`, for example.

    Raises:
        DataError: If the folder cannot be read.
    """
    found: dict[str, list[Path]] = {}
    for name in [entry.name for entry in _entries(folder) if entry.is_dir()]:
        if (split := SPLIT_FOLDERS.get(name.lower())) is not None:
            found.setdefault(split, []).append(folder / name)
    return {split: found[split] for split in ("train", "val", "test") if split in found}


@dataclass
class _Scan:
    """What is met below the folder of a data set besides images.

    Attributes:
        folder: The data set.
        left: Hidden files, those of tools, and those of another kind, as paths below the folder.
        loose: Images outside a class folder, and splits that are there twice.
        nested: Folders inside a class folder.
        unreadable: Names that are not UTF-8.
        unread: Class folders that hold files but no image, and the suffixes there.
    """

    folder: Path
    left: list[str] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def name(self, path: str) -> str:
        """Returns a path below the folder, fit to be printed."""
        return shown(os.path.relpath(path, self.folder))

    def wanted(self, place: Path) -> list[os.DirEntry[str]]:
        """Returns what a folder holds, in the order of names, and notes what does not count."""
        kept = []
        for entry in _entries(place):
            if of_a_tool(entry.name):
                self.left.append(self.name(entry.path))
            elif not readable(entry.name):
                self.unreadable.append(f"'{self.name(entry.path)}' has a name that is not UTF-8; rename it")
            else:
                kept.append(entry)
        return kept

    def problems(self) -> list[str]:
        """Returns one sentence per problem."""
        kinds = (self.loose, self.nested, self.unreadable, self.unread)
        return [problem for found in kinds for problem in several(found)]


def _entries(place: Path) -> list[os.DirEntry[str]]:
    """Returns what a folder holds, in the order of names."""
    try:
        with os.scandir(place) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"folder '{shown(place)}' cannot be read: {error.strerror or error}") from error


def _images_of_split(split: str, places: list[Path], scan: _Scan) -> dict[str, list[Path]]:
    """Returns class folder -> images; folders whose names are spelled alike in Unicode are one class."""
    if len(places) > 1:
        both = " and ".join(f"'{place.name}'" for place in places)
        scan.loose.append(f"folder '{scan.folder}' holds {both}, which are both split '{split}'; keep one")
    images: dict[str, list[Path]] = {}
    for entry in scan.wanted(places[0]):
        if entry.is_dir():
            images.setdefault(composed(entry.name), []).extend(_images_of_class(entry, scan))
        elif _is_image(entry.name):
            scan.loose.append(f"'{scan.name(entry.path)}' lies in no class folder")
        else:
            scan.left.append(scan.name(entry.path))
    return images


def _images_of_class(place: os.DirEntry[str], scan: _Scan) -> list[Path]:
    images: list[Path] = []
    others: list[Path] = []
    for entry in scan.wanted(Path(place.path)):
        if entry.is_dir():
            scan.nested.append(f"'{scan.name(entry.path)}' is a folder inside a class folder, which holds images alone")
        else:
            (images if _is_image(entry.name) else others).append(Path(entry.path))
    if others and not images:
        suffixes = ", ".join(sorted({file.suffix or "none" for file in others}))
        scan.unread.append(
            f"class folder '{scan.name(place.path)}' holds {len(others)} files with suffix {suffixes}, and no image; "
            f"images have {', '.join(IMAGE_SUFFIXES)}"
        )
    scan.left += [scan.name(str(file)) for file in others]
    return images


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _empty(folder: Path, codes: list[str], found: dict[str, dict[str, list[Path]]]) -> list[str]:
    """Says which splits and which classes have no image."""
    counts = Counter({code: 0 for code in codes})
    counts.update(code for images in found.values() for code, files in images.items() for _ in files)
    problems = [f"split '{name}' of '{folder}' holds no image" for name, images in found.items() if not _any(images)]
    if counts.total():
        problems += several([f"class '{code}' has no image in any split" for code in codes if not counts[code]])
    if len(codes) < 2:
        problems.append(f"folder '{folder}' holds {len(codes)} classes, at least two are needed")
    return problems


def _any(images: dict[str, list[Path]]) -> bool:
    return any(images.values())


def _names(folder: Path, codes: list[str]) -> tuple[list[str], list[str]]:
    """Returns the names of the classes, and what is wrong with them."""
    file = folder / CLASSES
    names, problems = (
        _given_names(file, codes) if file.is_file() else ([composed(code).replace("_", " ") for code in codes], [])
    )
    for group in same_names(names):
        both = " and ".join(f"'{codes[place]}'" for place in group)
        problems.append(
            f"folders {both} are both class '{names[group[0]]}' to a text tower; merge them, or name them in {CLASSES}"
        )
    return names, problems


def _given_names(file: Path, codes: list[str]) -> tuple[list[str], list[str]]:
    given = read_json(file)
    if not isinstance(given, dict):
        raise DataError(f"{file} must hold a mapping of folders to names, but holds {type(given).__name__}")
    given = {composed(code): name for code, name in given.items()}
    unnamed = [f"{CLASSES}: folder '{code}' has no name" for code in codes if code not in given]
    wrong = [
        f"{CLASSES}: '{code}' must have a name, a text such as 'tench', but has {given[code]!r}"
        for code in codes
        if code in given and not (isinstance(given[code], str) and given[code].strip())
    ]
    return [_name(given.get(code), code) for code in codes], [*several(unnamed), *several(wrong)]


def _name(given: object, code: str) -> str:
    return composed(given.strip()) if isinstance(given, str) and given.strip() else code


def prompts(folder: Path) -> tuple[tuple[str, ...], list[str]]:
    """Returns the lines of `prompts.txt`, none where there is no such file, and what is wrong with them.

    Raises:
        DataError: If the file is empty or cannot be read.
    """
    file = folder / PROMPTS
    if not file.is_file():  # the configuration may name templates
        return (), []
    lines = tuple(line.strip() for line in read_text(file).splitlines() if line.strip())
    if not lines:
        raise DataError(f"{file} holds no prompt, such as 'a photo of a {{}}'")
    return lines, _wrong(lines)


def _wrong(lines: Iterable[str]) -> list[str]:
    return [f"{PROMPTS}: '{line}' must hold {{}} exactly once" for line in lines if line.count("{}") != 1]
