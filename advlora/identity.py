"""Hashes that identify a result: of configurations, and of the code and shipped weights that determine the numbers."""

from __future__ import annotations

import hashlib
import json
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from advlora.config import LOCAL, ModelConfig, expanded

DIGITS = 16
SOURCES = ("**/*.py", "embedded/*/*.safetensors", "embedded/*/*.json")
MODEL_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".npz", ".json", ".txt")
"""Files of a model's weights, settings and tokenizer."""


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

    A changed method makes new trials. The orchestration is left out: it does not change numbers.
    """
    return hash_files(Path(str(resources.files("advlora"))))


def hash_files(package: Path) -> str:
    """Hashes name and content of every file below `package` that determines numbers."""
    digest = hashlib.sha256()
    for file in sorted(file for pattern in SOURCES for file in package.glob(pattern)):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(package).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:DIGITS]


def local_content(config: ModelConfig) -> str:
    """Hashes what a model's folder or checkpoint file holds, 16 hexadecimal digits.

    Retraining a model in the same folder makes new trials. Empty where the name is enough: embedded models are part of
    `code_version`, and a hub's models are identified by name and revision.
    """
    found = {file.name: _content(file, file.stat().st_mtime_ns) for file in _model_files(config)}
    return fingerprint(found) if found else ""


def _model_files(config: ModelConfig) -> list[Path]:
    weights = Path(expanded(config.pretrained or ""))
    files = [weights] if config.pretrained and weights.is_file() else []
    if config.source != "embedded" and config.name.startswith(LOCAL):
        inside = sorted(Path(expanded(config.name).removeprefix(LOCAL)).glob("*"))
        files += [file for file in inside if file.suffix in MODEL_SUFFIXES and file.is_file()]
    return files


@lru_cache(maxsize=64)
def _content(file: Path, changed: int) -> str:
    """Hashes a file once per `changed`, its time of writing."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
