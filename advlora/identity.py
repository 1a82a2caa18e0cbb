"""Hashes by which a result is known: of configurations, and of the code and shipped weights that make the numbers."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

DIGITS = 16
SOURCES = ("**/*.py", "embedded/*/*.safetensors", "embedded/*/*.json")


def fingerprint(*parts: Any) -> str:
    """Hashes plain data; equal data give equal hashes, whatever the order of their keys.

    Args:
        parts: Nested mappings, sequences, strings, finite numbers, booleans and None.

    Returns:
        16 hexadecimal digits.

    Raises:
        TypeError: If a part is not plain data.
        ValueError: If a number is not finite.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


@cache
def code_version() -> str:
    """Hashes the method's source and the shipped weights and settings, 16 hexadecimal digits.

    A changed method makes new cells. The orchestration is not a part of it: it does not change numbers.
    """
    return hash_files(Path(str(resources.files("advlora"))))


def hash_files(package: Path) -> str:
    """Hashes name and content of every file below `package` that determines numbers."""
    digest = hashlib.sha256()
    for file in sorted(file for pattern in SOURCES for file in package.glob(pattern)):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(package).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:DIGITS]
