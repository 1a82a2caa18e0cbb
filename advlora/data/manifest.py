"""`dataset.json`: classes, templates and splits of a data set, and the shards that hold them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from advlora.config import DataConfig, parse
from advlora.config.base import Count, Section
from advlora.data.clip_benchmark import described as clip_benchmark
from advlora.data.clip_benchmark import is_clip_benchmark
from advlora.data.files import read_json, same_names
from advlora.data.order import VERSION
from advlora.data.parallel import in_parallel
from advlora.data.remote import SCHEMES, bare, described
from advlora.errors import ConfigError, DataError, did_you_mean
from advlora.identity import fingerprint
from advlora.shelves import DATA_FILE, embedded_data, shelf

MANIFEST_FILE = DATA_FILE
SPLITS = ("train", "val", "test")
ASKED_AT_ONCE = 16
"""Servers' answers about shards that are waited for at once."""


def _inside(url: str) -> str:
    path = PurePosixPath(url)
    if not url.startswith(SCHEMES) and (path.is_absolute() or ".." in path.parts or ":" in url or "\\" in url):
        known = f"{', '.join(SCHEMES[:-1])} or {SCHEMES[-1]}"
        raise ValueError(f"'{bare(url)}' must be a path inside the folder of the data set, or start with {known}")
    return url


def _one_slot(template: str) -> str:
    if template.count("{}") != 1 or template.replace("{}", "").strip("{}") != template.replace("{}", ""):
        raise ValueError(f"'{template}' must hold {{}} exactly once, for the name of the class")
    return template


class Shard(Section):
    """A WebDataset archive: `.tar`, possibly compressed; `.png` or `.jpg`, `.cls` and `.txt` per sample."""

    url: Annotated[str, AfterValidator(_inside)]
    """Path relative to the manifest's folder, or an address, as of http, S3, Google Storage or the Hugging Face hub."""
    samples: Count
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    """May be left out for an address; its size and ETag identify it then."""

    @model_validator(mode="after")
    def _identified(self) -> Self:
        if not (self.sha256 or self.remote):
            raise ValueError("sha256 is missing; only a shard at an address may do without")
        return self

    @property
    def remote(self) -> bool:
        """Whether the shard is read over the network."""
        return self.url.startswith(SCHEMES)

    @property
    def name(self) -> str:
        """What it is called in messages: its address without user, password and query."""
        return bare(self.url)


class Split(Section):
    """The shards of one split, in order; a set that is only measured may have empty ones."""

    samples: Annotated[int, Field(ge=0)]
    shards: tuple[Shard, ...]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        total = sum(shard.samples for shard in self.shards)
        if total != self.samples:
            raise ValueError(f"samples is {self.samples}, but the shards hold {total}")
        return self


class Manifest(Section):
    """What `dataset.json` holds."""

    name: str
    task: Literal["zero-shot", "retrieval"] = "zero-shot"
    """`retrieval`: images with one or more captions each (a line of `.txt` per caption), without classes."""
    licence: str = ""
    source: str = ""
    classes: tuple[str, ...]
    templates: tuple[Annotated[str, AfterValidator(_one_slot)], ...]
    """Captions of a class, such as `a photo of a {}`."""
    splits: dict[str, Split]
    shuffled: bool = False
    """Whether the samples of a split lie in a random order already, so that the first ones are a fair draw of all. If
    not, their order is drawn, class by class, and a shard is read to its end before the draw is known."""
    content: str = ""
    """Hash of what the shards' own hashes do not cover."""

    @model_validator(mode="before")
    @classmethod
    def _retrieval_has_no_classes(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("task") == "retrieval":
            return {"classes": (), "templates": (), **data}
        return data

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if missing := [name for name in SPLITS if name not in self.splits]:
            raise ValueError(f"splits: {', '.join(missing)} missing; a data set needs {', '.join(SPLITS)}")
        if self.task == "retrieval":
            if self.classes or self.templates:
                raise ValueError("classes, templates: a data set for retrieval has captions instead; leave them out")
            return self
        if len(self.classes) < 2:
            raise ValueError("classes: at least two names are needed")
        if not self.templates:
            raise ValueError("templates: at least one is needed, such as 'a photo of a {}'")
        return self

    @property
    def hash(self) -> str:
        """Identifies the content: shards, classes, templates, and the order of the samples."""
        shards = {name: [shard.sha256 for shard in split.shards] for name, split in self.splits.items()}
        order = [] if self.shuffled else [VERSION]
        return fingerprint(shards, self.classes, self.templates, *([self.content] if self.content else []), *order)

    def captions(self, label: int) -> list[str]:
        """Returns every template filled with the name of a class."""
        return [template.replace("{}", self.classes[label]) for template in self.templates]


def data_folder(config: DataConfig) -> Path:
    """Finds the folder of a data set: an embedded one by name, any other by path.

    Raises:
        DataError: If there is none.
    """
    known = embedded_data()
    if config.name in known:
        return shelf() / config.name
    folder = Path(config.name).expanduser()
    if not folder.is_dir():
        nearest = did_you_mean(config.name, known) or f"; embedded: {', '.join(known)}"
        raise DataError(f"data.name: '{config.name}' is neither an embedded data set nor a folder{nearest}")
    if not (folder / MANIFEST_FILE).is_file() and not is_clip_benchmark(folder):
        raise DataError(f"data.name: folder '{config.name}' holds no {MANIFEST_FILE}")
    return folder


def read_manifest(config: DataConfig) -> Manifest:
    """Reads and validates the `dataset.json` of a data set, or what CLIP_benchmark writes instead.

    Raises:
        DataError: If the data set is unknown, or its manifest is missing or malformed.
    """
    folder = data_folder(config)
    file = folder / MANIFEST_FILE
    own = file.is_file()
    try:
        manifest = parse(Manifest, _content(file) if own else clip_benchmark(folder, SPLITS))
    except ConfigError as error:
        raise DataError([f"{file if own else folder}: {problem}" for problem in error.problems]) from None
    if own:  # the lists that others publish may hold a name twice
        _refuse_equal_names(file, manifest.classes)
    return _identified(manifest)


def _refuse_equal_names(file: Path, classes: tuple[str, ...]) -> None:
    if equal := same_names(classes):
        pairs = "; ".join(" and ".join(f"'{classes[place]}'" for place in group) for group in equal)
        raise DataError(f"{file}: classes: names must differ by more than case and spaces: {pairs}")


def _identified(manifest: Manifest) -> Manifest:
    """Adds to the content what the servers of shards without a hash tell of them."""
    unknown = [shard.url for split in manifest.splits.values() for shard in split.shards if not shard.sha256]
    if not unknown:
        return manifest
    told = list(in_parallel(described, unknown, ASKED_AT_ONCE))
    return manifest.model_copy(update={"content": fingerprint(manifest.content, told)})


def _content(file: Path) -> dict[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict):
        raise DataError(f"{file} must hold a mapping, but holds {type(content).__name__}")
    return content
