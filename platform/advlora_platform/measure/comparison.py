"""Two records, example by example: which model is better at what, and whether that is chance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from advlora.errors import UserError
from advlora_platform.analysis.paired import PairedComparison, compare_outcomes
from advlora_platform.measure.record import WORST, EvaluationRecord, Examples

CLEAN = "clean"
Right = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class ComparedRow:
    """One accuracy of both models.

    Attributes:
        epsilon: As in metric names; empty for clean images.
        attack: Label of an attack, `worst case` or `clean`. Under an attack an example is right if it withstands this
            attack and all before it, as an attack spares what an earlier one broke.
        first: Accuracy of A.
        second: Accuracy of B.
        found: Their difference.
    """

    epsilon: str
    attack: str
    first: float
    second: float
    found: PairedComparison


@dataclass(frozen=True)
class Comparison:
    """A against B.

    Attributes:
        first: Name of A.
        second: Name of B.
        protocol: What both were measured by.
        rows: Clean, then every attack and the worst case by epsilon.
        notes: What a reader must know before believing the rows.
    """

    first: str
    second: str
    protocol: str
    rows: tuple[ComparedRow, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns the comparison as plain data."""
        return asdict(self)


def compare_records(first: EvaluationRecord, second: EvaluationRecord) -> Comparison:
    """Compares two records of the same examples under the same protocol.

    Raises:
        UserError: If they are not of the same examples and protocol, or hold no outcomes of single examples.
    """
    if differing := list(_differences(first, second)):
        raise UserError(f"the records cannot be compared, for they differ in {', '.join(differing)}")
    if first.examples is None or second.examples is None:
        raise UserError("records of retrieval hold no outcomes of single examples, so they cannot be compared in pairs")
    ours, theirs = dict(_rows(first.examples)), dict(_rows(second.examples))
    rows = tuple(
        ComparedRow(*key, float(row.mean()), float(theirs[key].mean()), compare_outcomes(row, theirs[key]))  # type: ignore[arg-type]
        for key, row in ours.items()
    )
    names = (first.model.name, second.model.name)
    return Comparison(*names, first.protocol_text, rows, tuple(_notes(first, second)))


def _differences(first: EvaluationRecord, second: EvaluationRecord) -> Iterator[str]:
    pairs = {
        "data hash": (first.data.hash, second.data.hash),
        "split": (first.data.split, second.data.split),
        "number of examples": (first.data.samples, second.data.samples),
        "protocol hash": (first.protocol_hash, second.protocol_hash),
    }
    found = [f"{name} ({one} and {other})" for name, (one, other) in pairs.items() if one != other]
    yield from found
    if not found and first.data.examples != second.data.examples:
        yield "labels or captions of the examples"


def _notes(first: EvaluationRecord, second: EvaluationRecord) -> Iterator[str]:
    for letter, record in (("A", first), ("B", second)):
        if record.unreliable is not None:
            yield f"{letter} cannot be trusted: {record.unreliable}"
    if first.provenance.get("code_version") != second.provenance.get("code_version"):
        yield "the records were measured by different versions of the method's code"
    if first.model.weights == second.model.weights:
        yield "both records are of the same weights"


def _rows(examples: Examples) -> Iterator[tuple[tuple[str, str], Right]]:
    """Yields epsilon and attack, and which examples are right, `(N,)`."""
    clean = _are(examples.clean, "1")
    yield ("", CLEAN), clean
    for epsilon, attacks in examples.attacks.items():
        standing = clean
        for label, outcome in attacks.items():
            yield (epsilon, label), standing & _are(outcome, "1")
            standing = standing & ~_are(outcome, "0")
        yield (epsilon, WORST), _are(examples.robust[epsilon], "1")


def _are(digits: str, digit: str) -> Right:
    return np.array([each == digit for each in digits], dtype=bool)
