"""What became of each trial that is reported or searched."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from advlora_platform.study.failures import Failure
from advlora_platform.study.ledger import Record
from advlora_platform.study.trials import Trial

TrialStatus = Literal["missing", "running", "done", "stopped", "failed"]


@dataclass(frozen=True)
class TrialResult:
    """One trial of an arm or of a search.

    Attributes:
        number: Its place among the trials of its arm or search, from 1.
        seed: Its seed.
        trial_id: Its id; None while tuning is not finished, for the id follows from the tuned values.
        values: What varies: dotted key -> value.
        status: `missing` where there is no record; `stopped` where early stopping ended it, so that its last value is
            not comparable with a final one.
        metrics: The last report, finite values only.
        history: One entry per epoch.
        failure: Why there is no result.
        unreliable: Why its robust accuracy cannot be trusted; empty where no check failed.
        mlflow_run_id: The run that tracks it.
    """

    number: int
    seed: int
    trial_id: str | None
    values: dict[str, Any]
    status: TrialStatus
    metrics: dict[str, float]
    history: tuple[dict[str, float], ...]
    failure: Failure | None
    unreliable: str
    mlflow_run_id: str | None


def recorded(number: int, record: Record, runs: Mapping[str, str]) -> TrialResult:
    """Returns the result that a record holds."""
    return TrialResult(
        number=number,
        seed=record.seed,
        trial_id=record.trial_id,
        values=record.values,
        status=record.status,
        metrics=_finite(record.metrics),
        history=tuple(_finite(entry) for entry in record.history),
        failure=record.failure,
        unreliable=record.unreliable,
        mlflow_run_id=runs.get(record.trial_id),
    )


def planned(
    number: int, seed: int, trial: Trial | None, records: Mapping[str, Record], runs: Mapping[str, str]
) -> TrialResult:
    """Returns the result of a planned trial; None stands for one that depends on tuning that is not finished."""
    if trial is None:
        return TrialResult(number, seed, None, {}, "missing", {}, (), None, "", None)
    if trial.id not in records:
        return TrialResult(number, seed, trial.id, trial.values, "missing", {}, (), None, "", None)
    return recorded(number, records[trial.id], runs)


def count(statuses: Iterable[str], names: Sequence[str]) -> dict[str, int]:
    """Counts statuses by name, those that do not occur too."""
    listed = list(statuses)
    return {name: listed.count(name) for name in names}


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
