"""The rows of the ablation table: every arm with every planned trial, whatever became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from advlora_platform.analysis.estimates import Estimate, estimate
from advlora_platform.analysis.trials import TrialResult, count, planned
from advlora_platform.analysis.variance import Array
from advlora_platform.search.plan import ArmPlan
from advlora_platform.study.ledger import Record
from advlora_platform.study.outcomes import Shelf
from advlora_platform.study.spec import Study


@dataclass(frozen=True)
class ArmResult:
    """One arm.

    Attributes:
        name: Name of the arm.
        adapter: Kind of its adapter.
        factors: The level of each factor, from 0 for the baseline; of a switch, whether it is on. None for an arm
            outside the design.
        values: Dotted overrides of the base that define the arm.
        tuned: Nuisance values chosen inside the arm; None while tuning is not finished.
        tuning: Tuning trials by status, and `planned`.
        trials: One per seed, in the study's order.
        estimates: Metric -> mean over the seeds that are done.
    """

    name: str
    adapter: str
    factors: dict[str, int] | None
    values: dict[str, Any]
    tuned: dict[str, Any] | None
    tuning: dict[str, int]
    trials: tuple[TrialResult, ...]
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


def arm_result(
    plan: ArmPlan,
    study: Study,
    seeds: Sequence[int],
    confidence: float,
    records: Mapping[str, Record],
    runs: Mapping[str, str],
    outcomes: Shelf,
) -> ArmResult:
    """Looks up the trials of one arm by their ids; the names in records may be those of an older configuration."""
    expected = enumerate(zip(seeds, plan.trials or [None] * len(seeds), strict=True), start=1)
    trials = tuple(planned(number, seed, trial, records, runs) for number, (seed, trial) in expected)
    return ArmResult(
        name=plan.arm.name,
        adapter=study.trial_with(plan.arm.values).adapter.kind,
        factors=plan.arm.factors,
        values=plan.arm.values,
        tuned=plan.tuned,
        tuning=_tuning(plan, records),
        trials=trials,
        estimates=_estimates([trial for trial in trials if trial.status == "done"], confidence, outcomes),
    )


def _tuning(plan: ArmPlan, records: Mapping[str, Record]) -> dict[str, int]:
    known = [records[trial.id].status for trial in plan.tuning if trial.id in records]
    return {"planned": plan.budget, **count(known, ("done", "running", "failed"))}


def _estimates(done: Sequence[TrialResult], confidence: float, outcomes: Shelf) -> dict[str, Estimate]:
    names = dict.fromkeys(name for trial in done for name in trial.metrics)
    means = {name: estimate(_measured(done, name, outcomes), confidence) for name in names}
    return {name: mean for name, mean in means.items() if mean is not None}


def _measured(done: Sequence[TrialResult], metric: str, outcomes: Shelf) -> Sequence[float] | Array:
    """Returns a metric by seed, `(S,)`, or by seed and example, `(S, N)`, where the outcomes of all are known."""
    trials = [trial for trial in done if metric in trial.metrics]
    rows = [row for trial in trials if (row := outcomes.scores(str(trial.trial_id), metric)) is not None]
    whole = len(rows) == len(trials) and len({len(row) for row in rows}) == 1
    return np.stack(rows) if whole else [trial.metrics[metric] for trial in trials]
