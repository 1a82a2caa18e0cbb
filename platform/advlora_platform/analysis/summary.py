"""`Summary`: everything that a study found, as plain data. It is the content of `summary.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from advlora_platform.analysis.arms import ArmResult, arm_result, count
from advlora_platform.analysis.best import Best, best_arm, best_trial
from advlora_platform.analysis.confirmation import Confirmation, confirmation
from advlora_platform.analysis.contrasts import Contrast
from advlora_platform.analysis.effects import comparisons, interactions, main_effects, reference_of
from advlora_platform.analysis.metrics import Metrics, judging
from advlora_platform.analysis.sweeps import SweepResult, sweep_result
from advlora_platform.search.plan import ArmPlan
from advlora_platform.search.space import grid
from advlora_platform.study.ledger import Record
from advlora_platform.study.spec import AblationStudy, Study, SweepStudy, objective_metrics

CONFIDENCE = 0.95
"""Coverage of the intervals of a sweep's finalists."""
STATUSES = ("done", "running", "stopped", "failed")


@dataclass(frozen=True)
class FailedTrial:
    """A trial that ended without a result."""

    arm: str
    seed: int
    phase: str
    trial_id: str
    kind: str
    message: str
    mlflow_run_id: str | None


@dataclass(frozen=True)
class Summary:
    """What a study found so far.

    Attributes:
        study: Name of the study.
        kind: `ablation` or `sweep`.
        description: From the study's YAML.
        study_id: Ties it to its folder and its MLflow runs.
        protocol: What an accuracy means, in one clause.
        metrics: What it is judged by.
        confidence: Coverage of every interval.
        seeds: Seeds of every arm, or the one of a sweep.
        counts: Trials that are reported, by status: `planned`, `done`, `running`, `stopped`, `failed`, `missing`.
        arms: The ablation table; in a sweep, its finalists as they were confirmed.
        reference: The arm that others are compared with; None in a sweep.
        effects: Main effects of the factors on test robust and test clean accuracy, and on what else is reported.
        interactions: How factors change each other's effect; of a factorial.
        comparisons: Every arm against the reference.
        sweep: Trials, Pareto front and importance; None in an ablation.
        confirmation: What the strong evaluation said of a sweep's finalists; None where there is none.
        best: The recommended configuration; None where nothing qualifies.
        failures: Every trial that failed, tuning included.
        data_hash: Of the data.
        provenance: Code, versions, machine.
    """

    study: str
    kind: str
    description: str
    study_id: str
    protocol: str
    metrics: Metrics
    confidence: float
    seeds: tuple[int, ...]
    counts: dict[str, int]
    arms: tuple[ArmResult, ...]
    reference: str | None
    effects: tuple[Contrast, ...]
    interactions: tuple[Contrast, ...]
    comparisons: tuple[Contrast, ...]
    sweep: SweepResult | None
    confirmation: Confirmation | None
    best: Best | None
    failures: tuple[FailedTrial, ...]
    data_hash: str
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Returns plain finite data; what is not a number is None."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def summarise(
    study: Study,
    plans: Sequence[ArmPlan],
    records: Sequence[Record],
    identity: Mapping[str, Any],
    runs: Mapping[str, str],
) -> Summary:
    """Evaluates what is known of a study.

    Args:
        study: The study.
        plans: The trials of every arm; for a sweep, those of its finalists.
        records: What became of the trials, oldest first; those of other trials are not looked at.
        identity: `study_id`, `data_hash` and `provenance`.
        runs: Trial id -> MLflow run id.
    """
    known = {record.trial_id: record for record in records}
    if isinstance(study, AblationStudy):
        return _ablation(study, plans, known, identity, runs)
    return _sweep(study, plans, known, identity, runs)


def _ablation(
    study: AblationStudy,
    plans: Sequence[ArmPlan],
    records: Mapping[str, Record],
    identity: Mapping[str, Any],
    runs: Mapping[str, str],
) -> Summary:
    metrics, planned, level = judging(study.protocol, report=study.report), len(study.seeds), study.confidence
    judged, factors = (metrics.test_robust, metrics.test_clean, *metrics.further), list(study.factors)
    arms = tuple(arm_result(plan, study.base, study.seeds, level, records, runs) for plan in plans)
    crossed = factors if study.design == "factorial" else []
    reference = reference_of(arms)
    trials = [trial for arm in arms for trial in arm.trials]
    own = {trial.id: trial.id for plan in plans for trial in (*plan.tuning, *plan.trials)}
    return Summary(
        **_common(study, identity),
        metrics=metrics,
        confidence=level,
        seeds=study.seeds,
        counts={"planned": len(trials), **count((trial.status for trial in trials), (*STATUSES, "missing"))},
        arms=arms,
        reference=reference.name,
        effects=tuple(e for metric in judged for e in main_effects(arms, factors, metric, planned, level)),
        interactions=tuple(e for metric in judged for e in interactions(arms, crossed, metric, planned, level)),
        comparisons=tuple(e for metric in judged for e in comparisons(arms, reference, metric, planned, level)),
        sweep=None,
        confirmation=None,
        best=best_arm(arms, metrics.selecting, records, identity["data_hash"], level),
        failures=_failures([records[trial] for trial in own if trial in records], runs),
    )


def _sweep(
    study: SweepStudy,
    plans: Sequence[ArmPlan],
    records: Mapping[str, Record],
    identity: Mapping[str, Any],
    runs: Mapping[str, str],
) -> Summary:
    searched = [record for record in records.values() if record.phase == "search"]
    metrics, found = judging(study.protocol, objective_metrics(study)[0]), sweep_result(study, searched, runs)
    planned = _planned_trials(study)
    counts = count((record.status for record in searched), STATUSES)
    seeds = study.confirm.seeds if study.confirm else (study.seed,)
    arms = tuple(arm_result(plan, study.base, seeds, CONFIDENCE, records, runs) for plan in plans)
    confirmed = confirmation(study, arms, plans, found, CONFIDENCE)
    own = [records[trial.id] for plan in plans for trial in plan.trials if trial.id in records]
    data = identity["data_hash"]
    return Summary(
        **_common(study, identity),
        metrics=metrics,
        confidence=CONFIDENCE,
        seeds=seeds,
        counts={"planned": planned, **counts, "missing": max(planned - len(searched), 0)},
        arms=arms,
        reference=None,
        effects=(),
        interactions=(),
        comparisons=(),
        sweep=found,
        confirmation=confirmed,
        best=best_trial(found.trials, metrics.selecting, records, study.seed, data)
        if confirmed is None
        else best_arm(confirmed.reliable(arms), confirmed.metrics.selecting, records, data, CONFIDENCE),
        failures=_failures([*searched, *own], runs),
    )


def _common(study: Study, identity: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "study": study.name,
        "kind": study.kind,
        "description": study.description,
        "study_id": identity["study_id"],
        "protocol": study.protocol.describe(),
        "data_hash": identity["data_hash"],
        "provenance": dict(identity["provenance"]),
    }


def _planned_trials(study: SweepStudy) -> int:
    trials = study.search.trials
    return min(trials, len(grid(study.parameters))) if study.search.sampler == "grid" else trials


def _failures(records: Sequence[Record], runs: Mapping[str, str]) -> tuple[FailedTrial, ...]:
    return tuple(
        FailedTrial(r.arm, r.seed, r.phase, r.trial_id, r.failure.kind, r.failure.message, runs.get(r.trial_id))
        for r in records
        if r.failure is not None
    )


def _plain(content: Any) -> Any:
    """Makes tuples lists, keys text, and numbers that JSON cannot hold None."""
    if isinstance(content, Mapping):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
