"""The data sets that a model is taken to: suites by name, and where the folders of their sets lie."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from advlora.config import DataConfig, TransferConfig, TransferSet, expanded
from advlora.data.clip_benchmark import NAMES, TEMPLATES
from advlora.data.files import composed
from advlora.data.layouts import load_manifest
from advlora.data.manifest import Manifest
from advlora.errors import DataError, did_you_mean
from advlora.identity import fingerprint
from advlora.shelves import embedded_data

SUITES = {
    "fare-13": (
        *("cifar10", "stl10", "cifar100", "cars", "caltech101", "pets", "flowers", "dtd", "eurosat", "fgvc_aircraft"),
        *("pcam", "imagenet-r", "imagenet_sketch"),
    ),
    "tecoa-15": (
        *("cifar10", "cifar100", "stl10", "caltech101", "caltech256", "pets", "cars", "food101", "flowers"),
        *("fgvc_aircraft", "sun397", "dtd", "pcam", "hateful_memes", "eurosat"),
    ),
}
"""Suite -> its sets, as CLIP_benchmark calls them: those of Schlarmann et al. 2024, and of Mao et al. 2023 without
ImageNet, on which they train."""


OF_TORCHVISION = {"flowers": "flowers-102", "food101": "food-101", "pets": "oxford-iiit-pet"}
"""Set -> its folder where torchvision has made it."""


@dataclass(frozen=True)
class NamedSet:
    """A data set that a model is taken to.

    Attributes:
        name: As in the names of its metrics.
        data: Where it lies, by an absolute path.
    """

    name: str
    data: DataConfig

    @property
    def manifest(self) -> Manifest:
        """What the data set says about itself."""
        return load_manifest(self.data)


def set_names(config: TransferConfig) -> tuple[str, ...]:
    """Returns the names of the sets as in the names of their metrics; reads no file."""
    names = (name for each in config.sets for name in SUITES.get(each.name, (_plain(each.name),)))
    return tuple(dict.fromkeys(names))


def transfer_sets(config: TransferConfig) -> tuple[NamedSet, ...]:
    """Finds the folder of every set; one that two suites share is there once.

    Raises:
        DataError: If one is missing, or two have one name.
    """
    root, found, problems = Path(expanded(config.root)).absolute(), list[NamedSet](), list[str]()
    for each in config.sets:
        if each.name in SUITES:
            found += _suite(each, root)
            problems += _missing(each, root, config.root)
        elif each.name in embedded_data() and each.layout in ("auto", "shards"):
            found.append(_set(each, each.name, each.name))
        elif (folder := root / expanded(each.name)).is_dir():
            found.append(_set(each, _plain(each.name), str(folder)))
        else:
            problems.append(_unknown(each.name, config.root))
    distinct = tuple(dict.fromkeys(found))
    counts = Counter(each.name for each in distinct)
    repeated = [name for name in counts if counts[name] > 1]
    problems += [f"transfer.sets: {counts[name]} sets are called '{name}'; keep one" for name in repeated]
    if problems:
        raise DataError(problems)
    return distinct


def measured_split(manifest: Manifest) -> str | None:
    """Returns `test`, or `val` of a set whose test labels are not public, such as ImageNet; None if it has neither."""
    return next((name for name in ("test", "val") if manifest.splits[name].samples), None)


def transfer_hash(sets: tuple[NamedSet, ...]) -> str:
    """Identifies names and content of the sets; empty where there are none."""
    return fingerprint([(each.name, each.manifest.hash) for each in sets]) if sets else ""


def _set(given: TransferSet, name: str, place: str) -> NamedSet:
    return NamedSet(name, DataConfig(**{**given.model_dump(), "name": place}))


def _suite(given: TransferSet, root: Path) -> Iterator[NamedSet]:
    """Yields the sets of a suite that are there."""
    for name in SUITES[given.name]:
        folders = [root / folder for folder in _folders(name) if (root / folder).is_dir()]
        yield from (_set(given, name, str(folder)) for folder in folders[:1])


def _folders(name: str) -> tuple[str, ...]:
    """Returns what the folder of a set of a suite may be called: by CLIP_benchmark, plainly, or by torchvision."""
    made = OF_TORCHVISION.get(name)
    return (f"wds_{name}", f"wds_vtab-{name}", name, *([made] if made else []))


def _missing(given: TransferSet, root: Path, written: str) -> Iterator[str]:
    there, names = {each.name for each in _suite(given, root)}, SUITES[given.name]
    missing = [name for name in names if name not in there]
    if missing:
        example = " or ".join(_folders(missing[0]))
        yield (
            f"transfer.root: folder '{written}' lacks {len(missing)} of the {len(names)} sets of '{given.name}': "
            f"{', '.join(missing)}; each is the folder of a data set, '{missing[0]}' is called {example}, and those of "
            f"CLIP_benchmark hold {NAMES}, {TEMPLATES} and test/0.tar"
        )


def _unknown(name: str, root: str) -> str:
    known = [*SUITES, *embedded_data()]
    nearest = did_you_mean(name, known) or f"; by name: {', '.join(known)}"
    return f"transfer.sets: '{name}' is no folder in '{root}', suite, or embedded data set{nearest}"


def _plain(name: str) -> str:
    """Returns the last part of a path in characters that the name of a metric may hold."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", composed(Path(name).name)).strip("-.") or "set"
