"""The folders that torchvision's data sets make, such as `flowers-102`, listed by torchvision itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advlora.data.folders import prompts
from advlora.data.records import Entry, Listing
from advlora.errors import DataError


@dataclass(frozen=True)
class Known:
    """A data set of torchvision whose images are files.

    Attributes:
        name: Of its class.
        sign: A path inside, by which the folder is told from others of its name.
        splits: Split -> arguments of the class.
    """

    name: str
    sign: str
    splits: Mapping[str, Mapping[str, str]]


ALL = {name: {"split": name} for name in ("train", "val", "test")}
NO_VAL = {name: ALL[name] for name in ("train", "test")}
KNOWN = {
    "flowers-102": Known("Flowers102", "setid.mat", ALL),
    "food-101": Known("Food101", "meta", NO_VAL),
    "oxford-iiit-pet": Known("OxfordIIITPet", "annotations", {**NO_VAL, "train": {"split": "trainval"}}),
    "dtd": Known("DTD", "dtd/labels", ALL),
    "eurosat": Known("EuroSAT", "2750", {"test": {}}),  # it is published without splits
}
"""Name of the folder, which torchvision does not let one choose -> the set."""

PICKLES = "Python pickles, which may run code when they are read"
UNREAD = {
    "cifar-10-batches-py": ("CIFAR10", "test_batch", PICKLES, "wds_vtab-cifar10"),
    "cifar-100-python": ("CIFAR100", "meta", PICKLES, "wds_vtab-cifar100"),
    "stl10_binary": ("STL10", "test_X.bin", "all images in one file", "wds_stl10"),
}
"""Name of the folder -> the set's class, a file inside, why it is not read, and the same set of CLIP_benchmark."""

Sample = tuple[Path, int]


def is_of_torchvision(folder: Path) -> bool:
    """Whether a folder has the name and the inside of one that torchvision makes."""
    signs = {name: known.sign for name, known in KNOWN.items()} | {name: sign for name, (_, sign, *_) in UNREAD.items()}
    return folder.name in signs and (folder / signs[folder.name]).exists()


def torchvision_sets(folder: Path) -> Listing:
    """Lists a set of torchvision, with `prompts.txt` in its folder if there is one.

    Raises:
        DataError: If its images are no files, or torchvision cannot list them.
    """
    if folder.name in UNREAD:
        raise DataError(_converted(folder))
    if folder.name not in KNOWN:
        raise DataError(f"folder '{folder}' is called like none of torchvision's: {', '.join([*KNOWN, *UNREAD])}")
    found = dict(_splits(folder, KNOWN[folder.name]))
    classes = next((names for names, _ in found.values()), ())
    if any(names != classes for names, _ in found.values()):
        raise DataError(f"folder '{folder}': its splits do not have the same classes")
    templates, problems = prompts(folder)
    caption = (*templates, "{}")[0]
    records = {
        split: tuple(Entry(file, (caption.replace("{}", classes[label]),), label) for file, label in samples)
        for split, (_, samples) in found.items()
    }
    return Listing(folder.name, records, classes, templates, problems=tuple(problems))


def _splits(folder: Path, known: Known) -> Iterator[tuple[str, tuple[tuple[str, ...], list[Sample]]]]:
    """Yields the splits that are there with their classes and samples."""
    from torchvision import datasets

    there = False
    for split, arguments in known.splits.items():
        try:
            found = getattr(datasets, known.name)(folder.parent, download=False, **arguments)
        except FileNotFoundError:  # the list of this split
            continue
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise DataError(f"torchvision.datasets.{known.name} cannot read folder '{folder}': {error}") from error
        classes, samples = tuple(map(_words, found.classes)), list(_samples(found))
        if any(not 0 <= label < len(classes) for _, label in samples):
            raise DataError(f"folder '{folder}' has samples of more than its {len(classes)} classes in '{split}'")
        there = True
        yield split, (classes, samples)
    if not there:
        raise DataError(f"folder '{folder}' holds no list of a split: {', '.join(known.splits)}")


def _samples(found: Any) -> Iterator[Sample]:
    """Yields file and label of every sample: torchvision opens a file by `loader`, except those of pets."""
    if not hasattr(found, "loader"):
        yield from zip(found._images, found._labels, strict=True)
        return
    found.loader = Path
    yield from (found[place] for place in range(len(found)))


def _words(name: str) -> str:
    """Returns a class name as words: `apple_pie` and `AnnualCrop` are names of folders."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("_", " "))


def _converted(folder: Path) -> str:
    """Says why a folder is not read, and what to do."""
    name, _, why, instead = UNREAD[folder.name]
    return (
        f"folder '{folder}' holds {why}; save the images of torchvision.datasets.{name} as test/CLASS/NUMBER.png, "
        f"or take CLIP_benchmark's {instead}"
    )
