"""Did a trial come out again? Equal, within tolerance, or not; and what was different."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from advlora.metrics import Metric
from advlora_platform.study.environment import Environment
from advlora_platform.study.ledger import Record
from advlora_platform.study.outcomes import Shelf

Verdict = Literal["equal", "within tolerance", "not reproduced"]
ROUNDING = 1e-6
"""So far a metric may lie from the mean of the outcomes it was computed from."""


@dataclass(frozen=True)
class Circumstances:
    """Under which numbers were made.

    Attributes:
        code: Version of the method's code.
        environment: Device and versions; empty where they are not known.
    """

    code: str
    environment: Environment

    def differences(self, now: Circumstances) -> tuple[str, ...]:
        """Says what is different now, one short text each."""
        known = self.environment or dict.fromkeys(now.environment, "unknown")
        pairs = [
            ("code", self.code, now.code),
            *((key, known.get(key, "none"), v) for key, v in now.environment.items()),
        ]
        return tuple(f"{name} {then} -> {here}" for name, then, here in pairs if then != here)


@dataclass(frozen=True)
class Reproduction:
    """What became of a trial that was run again.

    Attributes:
        arm: Its arm.
        seed: Its seed.
        phase: Its phase.
        trial_id: Its id in the pack.
        verdict: Whether its accuracies and sizes came out again.
        differences: Metric -> recorded value, and the value now, None where there is none.
        largest: Largest difference of an accuracy, as a fraction.
        reasons: What may explain it: device, versions, code, or the failure of the trial.
    """

    arm: str
    seed: int
    phase: str
    trial_id: str
    verdict: Verdict
    differences: dict[str, tuple[float, float | None]]
    largest: float
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns plain data."""
        return asdict(self)


def reproduction(
    then: Record, now: Record | None, tolerance: float, before: Circumstances, here: Circumstances
) -> Reproduction:
    """Compares a trial with the same one, run again.

    Args:
        then: The recorded trial.
        now: What became of it now; None where it has not run.
        tolerance: Largest difference of an accuracy that counts as within tolerance, as a fraction.
        before: Under which circumstances it was recorded.
        here: Those of now.
    """
    again = now.metrics if now is not None and now.status == "done" else {}
    compared = {name: value for name, value in then.metrics.items() if _reproducible(name)}
    differences = {name: (value, again.get(name)) for name, value in compared.items() if again.get(name) != value}
    sizes = {name: abs(old - new) for name, (old, new) in differences.items() if new is not None}
    shares = [size for name, size in sizes.items() if Metric.parse(name).on_data]
    largest = max(shares, default=0.0)
    close = len(shares) == len(differences) and largest <= tolerance + ROUNDING
    verdict: Verdict = "not reproduced" if not close else "within tolerance" if differences else "equal"
    reasons = () if verdict == "equal" else _reasons(now, before, here)
    return Reproduction(then.arm, then.seed, then.phase, then.trial_id, verdict, differences, largest, reasons)


def _reproducible(name: str) -> bool:
    """Whether a metric does not depend on how fast or how large the machine is."""
    metric = Metric.parse(name)
    return metric.on_data or metric.split == "params"


def _reasons(now: Record | None, before: Circumstances, here: Circumstances) -> tuple[str, ...]:
    if now is None or now.status != "done":
        why = "it has not run" if now is None or now.failure is None else f"{now.failure.kind}: {now.failure.message}"
        return (why, *before.differences(here))
    return before.differences(here) or ("same device, versions and code: the recorded number is not what they give",)


def contradictions(records: Iterable[Record], outcomes: Shelf) -> list[str]:
    """Says which recorded metrics are not the mean of the outcomes that were kept beside them."""
    return [
        f"trial {record.trial_id}: {name} is recorded as {value:g}, and its outcomes give {mean:g}"
        for record in records
        for name, value in record.metrics.items()
        if (mean := _mean(outcomes, record.trial_id, name)) is not None and abs(mean - value) > ROUNDING
    ]


def _mean(outcomes: Shelf, trial_id: str, name: str) -> float | None:
    row = outcomes.scores(trial_id, name) if Metric.parse(name).on_data else None
    return None if row is None or not len(row) else float(np.mean(row))
