"""Folders of CLIP_benchmark (`wds_cifar10` and the like): archives per split, names and templates of classes beside."""

from __future__ import annotations

import hashlib
import io
import tarfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from advlora.errors import DataError

NAMES, TEMPLATES = "classnames.txt", "zeroshot_classification_templates.txt"


def is_clip_benchmark(folder: Path) -> bool:
    """Whether a folder is described by what CLIP_benchmark writes."""
    return (folder / NAMES).is_file()


def described(folder: Path, splits: tuple[str, ...]) -> dict[str, Any]:
    """Returns what the `dataset.json` of a folder would say; a split that is not there is empty.

    Archives lie in `SPLIT/0.tar`, `SPLIT/1.tar` and so on. A template holds `{c}` for the name of the class.

    Raises:
        DataError: If a file is missing or cannot be read.
    """
    classes, templates = (_lines(folder / name) for name in (NAMES, TEMPLATES))
    found = {name: _shards(folder, name) for name in splits}
    return {
        "name": folder.name,
        "classes": classes,
        "templates": [template.replace("{c}", "{}") for template in templates],
        "splits": {
            name: {"samples": sum(shard["samples"] for shard in shards), "shards": shards}
            for name, shards in found.items()
        },
    }


def _shards(folder: Path, split: str) -> list[dict[str, Any]]:
    files = sorted((folder / split).glob("*.tar"), key=lambda file: (len(file.name), file.name))  # 2.tar before 10.tar
    return [{"url": f"{split}/{file.name}", **_content(file, file.stat().st_mtime_ns)} for file in files]


@lru_cache(maxsize=4096)
def _content(file: Path, changed: int) -> dict[str, Any]:
    """Returns number of samples and hash of an archive, read once per `changed`, its time of writing."""
    try:
        content = file.read_bytes()
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            samples = sum(name.endswith(".cls") for name in archive.getnames())
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"shard '{file}' cannot be read: {error}") from error
    return {"samples": samples, "sha256": hashlib.sha256(content).hexdigest()}


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
