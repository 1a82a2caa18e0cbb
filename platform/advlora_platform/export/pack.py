"""A pack: a study folder without weights, sealed by the checksum of every file, that another person can verify."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advlora.errors import ConfigError, UserError
from advlora_platform.study.folder import StudyFolder, read_json, write_json

SEAL, LOCK, PATCH = "pack.json", "requirements.txt", "changes.patch"
DIGITS = 16


@dataclass(frozen=True)
class Pack:
    """A sealed pack.

    Attributes:
        folder: It can be read like any study folder.
        content: Name of the study, its data and code, and file -> SHA-256.
        digest: Stands for all of it: whoever quotes it, quotes every number.
    """

    folder: StudyFolder
    content: dict[str, Any]
    digest: str


def seal(path: Path, about: Mapping[str, Any]) -> Pack:
    """Writes the checksum of every file of a pack; nothing may be written into it afterwards.

    Args:
        path: The folder.
        about: What else is to be known before anything is read.
    """
    write_json(path / SEAL, {**about, "files": _checksums(path)})
    return open_pack(path)


def open_pack(path: Path) -> Pack:
    """Opens a pack in which every file is as it was sealed.

    Raises:
        ConfigError: If this is no pack.
        UserError: With one sentence per file that was changed, removed or added.
    """
    content = read_json(path / SEAL)
    if content is None or not isinstance(content.get("files"), dict):
        raise ConfigError(f"'{path}' is not a pack (it has no {SEAL}); 'advlora export STUDY --pack DIR' makes one")
    problems = list(_broken(content["files"], _checksums(path)))
    if problems:
        raise UserError([f"{path}: {problem}" for problem in problems])
    return Pack(StudyFolder(path.resolve()), content, _checksum(path / SEAL)[:DIGITS])


def _broken(sealed: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*sealed, *found}):
        if name not in found:
            yield f"{name} is missing"
        elif name not in sealed:
            yield f"{name} was added after the pack was sealed"
        elif sealed[name] != found[name]:
            yield f"{name} was changed after the pack was sealed"


def _checksums(path: Path) -> dict[str, str]:
    files = sorted(file for file in path.rglob("*") if file.is_file() and file != path / SEAL)
    return {file.relative_to(path).as_posix(): _checksum(file) for file in files}


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
