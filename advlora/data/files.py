"""Which files and folders of a data set count, and how its text files are read."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advlora.errors import DataError
from advlora.text import decoded

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif"),
)
"""In whatever case."""

TOOL_NAMES = frozenset(
    {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "#recycle", "$recycle.bin", "lost+found"}
    | {"system volume information"}
)
"""What systems leave in folders without a dot in front, in lower case."""


def of_a_tool(path: str) -> bool:
    """Returns whether a part of a path is hidden or left by a system, such as `.ipynb_checkpoints` or `Thumbs.db`."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return any(part.startswith(".") or part.lower() in TOOL_NAMES for part in parts)


def composed(name: str) -> str:
    """Returns the one spelling of a name: macOS writes `é` as two characters, others as one."""
    return unicodedata.normalize("NFC", name)


def readable(name: str) -> bool:
    """Returns whether the name of a file is UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(path: Path | str) -> str:
    """Returns a path that can be printed, whatever its bytes are."""
    return os.fsencode(path).decode(errors="backslashreplace")


def same_names(names: Sequence[str]) -> list[list[int]]:
    """Returns the groups of positions whose names a text tower cannot tell apart: by case or spaces alone."""
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(" ".join(composed(name).casefold().split()), []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def read_text(file: Path) -> str:
    """Reads a text file.

    Raises:
        DataError: If it cannot be read, or is neither UTF-8 nor what its byte-order mark says.
    """
    try:
        return decoded(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{file} {error}") from error


def read_json(file: Path) -> Any:
    """Reads a JSON file.

    Raises:
        DataError: If it cannot be read or is no JSON.
    """
    text = read_text(file)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not readable JSON: {error}") from error
