"""What a sweep found: its trials, what mattered, and how its finalists did under the strong evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advlora_platform.analysis.arms import ArmResult, arm_result
from advlora_platform.analysis.best import Recommendation, best_arm, best_trial
from advlora_platform.analysis.confirmation import Confirmation, confirmation
from advlora_platform.analysis.metrics import metrics_of
from advlora_platform.analysis.summary import STATUSES, Summary, failures, named_after
from advlora_platform.analysis.sweeps import SweepResult, sweep_result
from advlora_platform.analysis.trials import TrialResult, count
from advlora_platform.search.plan import ArmPlan
from advlora_platform.search.sweep import planned_trials
from advlora_platform.study.failures import class_of
from advlora_platform.study.ledger import Record
from advlora_platform.study.outcomes import Shelf
from advlora_platform.study.sweep import SweepStudy

CONFIDENCE = 0.95
"""Coverage of the intervals of a sweep's finalists."""


@dataclass(frozen=True)
class SweepSummary(Summary):
    """What a sweep found so far; `counts` is about the search, `arms` are its finalists as they were confirmed.

    Attributes:
        sweep: Trials of the search, Pareto front and importance.
        confirmation: What the strong evaluation said of the finalists; None where the study asks for none.
    """

    sweep: SweepResult
    confirmation: Confirmation | None

    @property
    def required(self) -> tuple[TrialResult, ...]:
        """The finalists' trials, and those of the search.

        That some configurations of a search diverge or do not fit into memory is a result, as long as others do not.
        """
        searched = self.sweep.trials
        found = any(trial.status == "done" for trial in searched)
        return (*super().required, *(trial for trial in searched if not (found and _says_no(trial))))

    def answers(self) -> dict[str, float]:
        """Returns the importance of the parameters."""
        return {f"importance/{name}": share for name, share in (self.sweep.importance or {}).items()}


def _says_no(trial: TrialResult) -> bool:
    return trial.failure is not None and class_of(trial.failure).final


def summarise_sweep(
    study: SweepStudy,
    plans: Sequence[ArmPlan],
    records: Sequence[Record],
    identity: Mapping[str, Any],
    runs: Mapping[str, str],
    outcomes: Shelf | None = None,
) -> SweepSummary:
    """Evaluates what is known of a sweep.

    Args:
        study: The study.
        plans: The trials of its finalists.
        records: What became of the trials, oldest first; every one of phase `search` is taken for one of this search.
        identity: `study_id`, `data_hash`, the number of `classes`, and `provenance`.
        runs: Trial id -> MLflow run id.
        outcomes: What became of every example; None where that is not known.
    """
    known = {record.trial_id: record for record in records}
    searched = [record for record in known.values() if record.phase == "search"]
    own = [known[trial.id] for plan in plans for trial in plan.trials if trial.id in known]
    seeds, planned = study.confirm.seeds if study.confirm else (study.seed,), planned_trials(study)
    found = sweep_result(study, searched, runs)
    arms = tuple(arm_result(plan, study, seeds, CONFIDENCE, known, runs, outcomes or Shelf()) for plan in plans)
    confirmed = confirmation(study, arms, plans, found, CONFIDENCE, identity.get("classes", 0))
    return SweepSummary(
        **named_after(study, identity),
        metrics=metrics_of(study.protocol, str(study.objectives()[0])),
        confidence=CONFIDENCE,
        seeds=seeds,
        counts={
            "planned": planned,
            **count((record.status for record in searched), STATUSES),
            "missing": max(planned - len(searched), 0),
        },
        arms=arms,
        best=_best(study, found, arms, confirmed, known, identity["data_hash"]),
        failures=failures([*searched, *own], runs),
        sweep=found,
        confirmation=confirmed,
    )


def _best(
    study: SweepStudy,
    found: SweepResult,
    arms: Sequence[ArmResult],
    confirmed: Confirmation | None,
    records: Mapping[str, Record],
    data_hash: str,
) -> Recommendation | None:
    if confirmed is None:
        metric = str(study.objectives()[0])
        return best_trial(found.trials, metric, records, study.seed, data_hash, study.limits())
    metric, limits = confirmed.metrics.selecting, study.limits(study.reported_protocol)
    return best_arm(confirmed.reliable(arms), metric, records, data_hash, CONFIDENCE, limits)
