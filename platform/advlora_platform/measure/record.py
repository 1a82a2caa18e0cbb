"""`EvaluationRecord`: what was measured of one model, on which data, how, and what became of every example."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from advlora.config import parse
from advlora.config.base import Section
from advlora.errors import ConfigError
from advlora.identity import fingerprint
from advlora_platform.study.folder import write_json

FOLDER = Path("records")
WORST = "worst case"
"""The row of `accuracies` under all attacks together."""


class ModelIdentity(Section):
    """Which model. Holds no absolute path."""

    name: str
    kind: str
    weights: str
    """Hash of every parameter and buffer."""
    base: str | None = None
    """The pretrained model that it started from, where that is known."""
    run: str | None = None
    """MLflow run of the trial that trained it."""
    trial_id: str | None = None


class DataIdentity(Section):
    """Which examples."""

    name: str
    hash: str
    split: str
    samples: int
    examples: str
    """Hash of labels and captions of the measured examples, in order."""
    asked: int | None = None
    """How many the protocol asks for, if the split has so many; None for all."""
    classes: int | None = None
    """How many the data set has; None for retrieval."""
    classes_seen: int | None = None
    """How many of them are among the measured examples."""

    def describe(self) -> str:
        """Returns how many examples were measured, and how much of the data set they show."""
        text = f"{self.samples} examples"
        if self.asked is not None and self.samples < self.asked:
            text += f" of the {self.asked} asked for"
        return text if self.classes is None else f"{text} of {self.classes_seen} of {self.classes} classes"


class GuardRecord(Section):
    """One check of the numbers; see `advlora.evaluation.guards.GuardFinding`."""

    name: str
    ok: bool
    value: float
    reason: str


class Examples(Section):
    """What became of every example: a character each, `1` right, `0` wrong, `-` not attacked because broken before."""

    clean: str
    robust: dict[str, str]
    attacks: dict[str, dict[str, str]]


class EvaluationRecord(Section):
    """A measurement. Epsilons are written as in metric names, such as `8_255`."""

    model: ModelIdentity
    data: DataIdentity
    protocol_name: str
    protocol: dict[str, Any]
    """As it was then; `protocol_hash` is its version."""
    protocol_hash: str
    protocol_text: str
    transfer: dict[str, DataIdentity] = {}
    """The further data sets by the names in `metrics`."""
    metrics: dict[str, float]
    accuracies: dict[str, dict[str, float]] = {}
    """Epsilon -> attack -> accuracy under it and all attacks before it; and under `worst case`, all of them."""
    curve: tuple[tuple[float, float], ...] = ()
    """Epsilon (0 is clean) and accuracy, from weak to strong."""
    guards: tuple[GuardRecord, ...] = ()
    unreliable: str | None = None
    """Why the numbers cannot be trusted; None if no check failed."""
    examples: Examples | None = None
    """None for retrieval, where an example has no outcome of its own: every image is ranked among all captions."""
    seconds: float
    provenance: dict[str, Any]

    def brief(self) -> dict[str, Any]:
        """Returns the record as plain data without the examples."""
        return self.model_dump(mode="json", exclude={"examples"})


def record_file(record: EvaluationRecord) -> Path:
    """Returns where a record is kept by default: the same measurement of the same weights has the same name."""
    measured = (record.model.weights, record.data.model_dump(), record.protocol_hash)
    further = [(name, data.model_dump()) for name, data in record.transfer.items()]
    identity = fingerprint(*measured, further, record.provenance.get("code_version"))
    return FOLDER / f"{_plain(record.model.name)}-{_plain(record.protocol_name)}-{identity[:8]}.json"


def write_record(record: EvaluationRecord, path: Path) -> None:
    """Writes a record in one step."""
    write_json(path, record.model_dump(mode="json"))


def read_record(path: Path) -> EvaluationRecord:
    """Reads a record.

    Raises:
        ConfigError: If the file cannot be read or is no record.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict) or "protocol_hash" not in content:
        raise ConfigError(f"{path} is not a record that 'advlora evaluate' wrote")
    return parse(EvaluationRecord, content, where=f"{path}: ")


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")[:64] or "model"
