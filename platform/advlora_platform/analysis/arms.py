"""The rows of the ablation table: every arm with every planned trial, whatever became of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from advlora.config import TrialConfig, parse, vary
from advlora_platform.analysis.estimates import Estimate, estimate
from advlora_platform.search.plan import ArmPlan
from advlora_platform.study.failures import Failure
from advlora_platform.study.ledger import Record
from advlora_platform.study.trials import Trial

TrialStatus = Literal["missing", "running", "done", "stopped", "failed"]


@dataclass(frozen=True)
class ArmTrial:
    """What became of one planned trial.

    Attributes:
        seed: Its seed.
        trial: Its id; None while tuning is not finished, for the id follows from the tuned values.
        status: `missing` where there is no record.
        metrics: Of the last report, finite ones only.
        failure: Why there is no result.
        unreliable: Why its robust accuracy cannot be trusted; empty where no check failed.
        mlflow_run_id: The run that tracks it.
    """

    seed: int
    trial_id: str | None
    status: TrialStatus
    metrics: dict[str, float]
    failure: Failure | None
    unreliable: str
    mlflow_run_id: str | None


@dataclass(frozen=True)
class ArmResult:
    """One arm.

    Attributes:
        name: Of the arm.
        adapter: The kind of its adapter.
        factors: Which factors are on; None for an arm outside the design.
        values: Dotted overrides of the base that define the arm.
        tuned: Nuisance values chosen inside the arm; None while tuning is not finished.
        tuning: Tuning trials by status, and `planned`.
        trials: One per seed, in the study's order.
        estimates: Metric -> mean over the seeds that are done.
    """

    name: str
    adapter: str
    factors: dict[str, bool] | None
    values: dict[str, Any]
    tuned: dict[str, Any] | None
    tuning: dict[str, int]
    trials: tuple[ArmTrial, ...]
    estimates: dict[str, Estimate]

    @property
    def complete(self) -> bool:
        """Whether every planned trial is done."""
        return all(trial.status == "done" for trial in self.trials)

    @property
    def reliable(self) -> bool:
        """Whether no check of the evaluation failed."""
        return not any(trial.unreliable for trial in self.trials)

    @property
    def done(self) -> int:
        """Number of seeds that are done."""
        return sum(trial.status == "done" for trial in self.trials)

    def by_seed(self, metric: str) -> dict[int, float]:
        """Returns a metric of the seeds that are done."""
        return {c.seed: c.metrics[metric] for c in self.trials if c.status == "done" and metric in c.metrics}


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Leaves out what is not a number."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def arm_result(
    plan: ArmPlan,
    base: Mapping[str, Any],
    seeds: Sequence[int],
    confidence: float,
    records: Mapping[str, Record],
    runs: Mapping[str, str],
) -> ArmResult:
    """Looks up the trials of one arm by their ids; the names in records may be those of an older configuration."""
    planned = plan.trials or [None] * len(seeds)
    trials = tuple(_trial_result(seed, trial, records, runs) for seed, trial in zip(seeds, planned, strict=True))
    done = [trial.metrics for trial in trials if trial.status == "done"]
    return ArmResult(
        name=plan.arm.name,
        adapter=parse(TrialConfig, vary(TrialConfig, base, plan.arm.values)).adapter.kind,
        factors=plan.arm.factors,
        values=plan.arm.values,
        tuned=plan.tuned,
        tuning=_tuning(plan, records),
        trials=trials,
        estimates=_estimates(done, confidence),
    )


def _trial_result(seed: int, trial: Trial | None, records: Mapping[str, Record], runs: Mapping[str, str]) -> ArmTrial:
    record = None if trial is None else records.get(trial.id)
    if trial is None or record is None:
        return ArmTrial(seed, None if trial is None else trial.id, "missing", {}, None, "", None)
    metrics, run = finite(record.metrics), runs.get(trial.id)
    return ArmTrial(seed, trial.id, record.status, metrics, record.failure, record.unreliable, run)


def _tuning(plan: ArmPlan, records: Mapping[str, Record]) -> dict[str, int]:
    known = [records[trial.id].status for trial in plan.tuning if trial.id in records]
    return {"planned": plan.budget, **count(known, ("done", "running", "failed"))}


def count(statuses: Iterable[str], names: Sequence[str]) -> dict[str, int]:
    """Counts statuses by name, those that do not occur too."""
    listed = list(statuses)
    return {name: listed.count(name) for name in names}


def _estimates(done: Sequence[Mapping[str, float]], confidence: float) -> dict[str, Estimate]:
    names = dict.fromkeys(name for metrics in done for name in metrics)
    means = {name: estimate([metrics[name] for metrics in done if name in metrics], confidence) for name in names}
    return {name: mean for name, mean in means.items() if mean is not None}
