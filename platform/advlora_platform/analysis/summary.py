"""`Summary`: everything that a study found, as plain data. It is the content of `summary.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from advlora.config import clean_metric, robust_metric
from advlora_platform.analysis.arms import ArmResult, arm_result, count
from advlora_platform.analysis.best import Best, best_arm, best_trial
from advlora_platform.analysis.contrasts import Contrast
from advlora_platform.analysis.effects import comparisons, interactions, main_effects, reference_of
from advlora_platform.analysis.sweeps import SweepResult, sweep_result
from advlora_platform.search.agenda import ArmPlan
from advlora_platform.search.space import grid
from advlora_platform.study.ledger import Record
from advlora_platform.study.spec import AblationStudy, Study, SweepStudy, objective_metrics

STATUSES = ("done", "running", "stopped", "failed")


@dataclass(frozen=True)
class Metrics:
    """The names of the metrics that a study is judged by.

    Attributes:
        selecting: Chooses the best; on `val`.
        val_robust: Robust accuracy at the protocol's main strength.
        val_clean: Clean accuracy.
        test_robust: The same on `test`, for cells that are reported.
        test_clean: The same on `test`.
        curve: Robust accuracy on `test` -> its radius, ascending, the main strength included; empty without a curve.
    """

    selecting: str
    val_robust: str
    val_clean: str
    test_robust: str
    test_clean: str
    curve: dict[str, float]


@dataclass(frozen=True)
class FailedCell:
    """A cell that ended without a result."""

    arm: str
    seed: int
    phase: str
    cell: str
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
        confidence: Coverage of every interval; None in a sweep.
        seeds: Seeds of every arm, or the one of a sweep.
        counts: Cells that are reported, by status: `planned`, `done`, `running`, `stopped`, `failed`, `missing`.
        arms: The ablation table; empty in a sweep.
        reference: The arm that others are compared with; None in a sweep.
        effects: Main effects of the factors on test robust and test clean accuracy.
        interactions: How factors change each other's effect; of a factorial.
        comparisons: Every arm against the reference.
        sweep: Trials, Pareto front and importance; None in an ablation.
        best: The recommended configuration; None where nothing qualifies.
        failures: Every cell that failed, tuning included.
        data_hash: Of the data.
        provenance: Code, versions, machine.
    """

    study: str
    kind: str
    description: str
    study_id: str
    protocol: str
    metrics: Metrics
    confidence: float | None
    seeds: tuple[int, ...]
    counts: dict[str, int]
    arms: tuple[ArmResult, ...]
    reference: str | None
    effects: tuple[Contrast, ...]
    interactions: tuple[Contrast, ...]
    comparisons: tuple[Contrast, ...]
    sweep: SweepResult | None
    best: Best | None
    failures: tuple[FailedCell, ...]
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
        plans: The cells of every arm; empty for a sweep.
        records: What became of the cells, oldest first; those of other cells are not looked at.
        identity: `study_id`, `data_hash` and `provenance`.
        runs: Cell id -> MLflow run id.
    """
    known = {record.cell_id: record for record in records}
    if isinstance(study, AblationStudy):
        return _ablation(study, plans, known, identity, runs)
    return _sweep(study, [record for record in records if record.phase == "search"], identity, runs)


def _ablation(
    study: AblationStudy,
    plans: Sequence[ArmPlan],
    records: Mapping[str, Record],
    identity: Mapping[str, Any],
    runs: Mapping[str, str],
) -> Summary:
    metrics, planned, level = judging(study), len(study.seeds), study.confidence
    judged, factors = (metrics.test_robust, metrics.test_clean), list(study.factors)
    arms = tuple(arm_result(plan, study, records, runs) for plan in plans)
    crossed = factors if study.design == "factorial" else []
    reference = reference_of(arms)
    cells = [cell for arm in arms for cell in arm.cells]
    own = {cell.id: cell.id for plan in plans for cell in (*plan.tuning, *plan.cells)}
    return Summary(
        **_common(study, identity),
        metrics=metrics,
        confidence=level,
        seeds=study.seeds,
        counts={"planned": len(cells), **count((cell.status for cell in cells), (*STATUSES, "missing"))},
        arms=arms,
        reference=reference.name,
        effects=tuple(e for metric in judged for e in main_effects(arms, factors, metric, planned, level)),
        interactions=tuple(e for metric in judged for e in interactions(arms, crossed, metric, planned, level)),
        comparisons=tuple(e for metric in judged for e in comparisons(arms, reference, metric, planned, level)),
        sweep=None,
        best=best_arm(arms, metrics.selecting, records, identity["data_hash"], level),
        failures=_failures([records[cell] for cell in own if cell in records], runs),
    )


def _sweep(
    study: SweepStudy, records: Sequence[Record], identity: Mapping[str, Any], runs: Mapping[str, str]
) -> Summary:
    metrics, found = judging(study), sweep_result(study, records, runs)
    known = {record.cell_id: record for record in records}
    planned = _planned_trials(study)
    counts = count((record.status for record in records), STATUSES)
    return Summary(
        **_common(study, identity),
        metrics=metrics,
        confidence=None,
        seeds=(study.seed,),
        counts={"planned": planned, **counts, "missing": max(planned - len(records), 0)},
        arms=(),
        reference=None,
        effects=(),
        interactions=(),
        comparisons=(),
        sweep=found,
        best=best_trial(found.trials, metrics.selecting, known, study.seed, identity["data_hash"]),
        failures=_failures(records, runs),
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


def judging(study: Study) -> Metrics:
    """Returns the metrics that a study is judged by."""
    epsilon, curve = study.protocol.epsilon, study.protocol.curve
    strengths = sorted({epsilon, *curve}) if curve else []
    return Metrics(
        selecting=objective_metrics(study)[0],
        val_robust=robust_metric("val", epsilon),
        val_clean=clean_metric("val"),
        test_robust=robust_metric("test", epsilon),
        test_clean=clean_metric("test"),
        curve={robust_metric("test", strength): strength for strength in strengths},
    )


def _planned_trials(study: SweepStudy) -> int:
    trials = study.search.trials
    return min(trials, len(grid(study.parameters))) if study.search.sampler == "grid" else trials


def _failures(records: Sequence[Record], runs: Mapping[str, str]) -> tuple[FailedCell, ...]:
    return tuple(
        FailedCell(r.arm, r.seed, r.phase, r.cell_id, r.failure.kind, r.failure.message, runs.get(r.cell_id))
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
