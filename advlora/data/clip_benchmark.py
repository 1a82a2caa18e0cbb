"""Folders of CLIP_benchmark (`wds_cifar10` and the like): archives per split, names and templates of classes beside."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

from advlora.data.examination import Examined, examine, hashed
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
    found = examine(folder, "archives", files, _look, threads=1)
    if problems := [each.problem for each in found if each.problem]:
        raise DataError(problems)
    return [{"url": f"{split}/{file.name}", **_said(each.digest)} for file, each in zip(files, found, strict=True)]


def _look(file: Path) -> Examined:
    """Returns hash and number of samples of an archive as one text, which is remembered."""
    try:
        with tarfile.open(file) as archive:
            samples = sum(name.endswith(".cls") for name in archive.getnames())
        return Examined(f"{hashed(file)} {samples}")
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"shard '{file}' cannot be read: {error}") from error


def _said(digest: str) -> dict[str, Any]:
    sha256, _, samples = digest.partition(" ")
    return {"samples": int(samples), "sha256": sha256}


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
