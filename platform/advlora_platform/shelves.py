"""The studies and protocols that ship with the package: name -> file. It reads none of them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Literal

Kind = Literal["ablation", "sweep"]
SHELVES: dict[Kind, str] = {"ablation": "advlora_ablations", "sweep": "advlora_search_spaces"}
DESCRIPTION = "description:"


def shipped(kind: Kind) -> dict[str, Path]:
    """Returns the studies of a kind that ship with the package: name -> file."""
    return _files(SHELVES[kind])


def shipped_protocols() -> dict[str, Path]:
    """Returns the evaluation protocols that ship with the package: name -> file."""
    return _files("advlora_protocols")


def described(kind: Kind) -> dict[str, str]:
    """Returns the shipped studies of a kind with their descriptions, which is one line of each file."""
    return {name: _description(file) for name, file in shipped(kind).items()}


def _files(package: str) -> dict[str, Path]:
    folder = Path(str(resources.files(package)))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _description(file: Path) -> str:
    lines = file.read_text(encoding="utf-8").splitlines()
    return next((line.removeprefix(DESCRIPTION).strip() for line in lines if line.startswith(DESCRIPTION)), "")
