"""Which configuration a study recommends, and why. Selected on `val`, by the last value, never by a lucky peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advlora.metrics import SIZES, Metric
from advlora_platform.analysis.arms import ArmResult
from advlora_platform.analysis.estimates import Estimate
from advlora_platform.analysis.trials import TrialResult
from advlora_platform.analysis.words import plural
from advlora_platform.study.ledger import Record

SIZE = str(SIZES[0])
"""Number of trained parameters: of equally good configurations the smaller one is recommended."""


@dataclass(frozen=True)
class Recommendation:
    """The recommended configuration and where it comes from.

    Attributes:
        config: The resolved configuration, as plain data.
        reason: One sentence.
        arm: Its arm; `search` in a sweep.
        trial_id: The trial whose configuration and metrics these are.
        mlflow_run_id: The run that tracks the trial.
        seeds: Every seed that the choice rests on; `config` has the first one.
        data_hash: Hash of the data.
        metrics: The trial's metrics.
    """

    config: dict[str, Any]
    reason: str
    arm: str
    trial_id: str
    mlflow_run_id: str | None
    seeds: tuple[int, ...]
    data_hash: str
    metrics: dict[str, float]


def best_arm(
    arms: Sequence[ArmResult], metric: str, records: Mapping[str, Record], data_hash: str, confidence: float
) -> Recommendation | None:
    """Returns the arm with the highest mean, at the study's first seed; the cheaper of equal ones.

    An arm with a trial that is not done, or whose robust accuracy cannot be trusted, does not compete; nor does one in
    which nothing is trained.
    """
    candidates = [
        arm for arm in arms if arm.complete and arm.reliable and arm.adapter != "none" and metric in arm.estimates
    ]
    if not candidates:
        return None
    winner = max(candidates, key=lambda arm: (arm.estimates[metric].mean, -_size(arm)))
    trial = winner.trials[0]
    assert trial.trial_id is not None, "the trial is done"
    return Recommendation(
        config=records[trial.trial_id].config,
        reason=_arm_reason(winner, metric, winner.estimates[metric], len(candidates), confidence),
        arm=winner.name,
        trial_id=trial.trial_id,
        mlflow_run_id=trial.mlflow_run_id,
        seeds=tuple(trial.seed for trial in winner.trials),
        data_hash=data_hash,
        metrics=trial.metrics,
    )


def _size(arm: ArmResult) -> float:
    return arm.estimates[SIZE].mean if SIZE in arm.estimates else 0.0


def _arm_reason(winner: ArmResult, metric: str, mean: Estimate, candidates: int, confidence: float) -> str:
    interval = (
        "no interval from one seed"
        if mean.low is None or mean.high is None
        else f"{100 * confidence:g} % interval {100 * mean.low:.1f} to {100 * mean.high:.1f}"
    )
    return (
        f"'{winner.name}' has the highest mean {metric} of {plural(candidates, 'complete arm')}: "
        f"{100 * mean.mean:.1f} % over {plural(mean.n, 'seed')} ({interval})"
    )


def best_trial(
    trials: Sequence[TrialResult], metric: str, records: Mapping[str, Record], seed: int, data_hash: str
) -> Recommendation | None:
    """Returns the finished, reliable trial with the best last value of the first objective; the cheaper of equals."""
    candidates = [
        trial for trial in trials if trial.status == "done" and not trial.unreliable and metric in trial.metrics
    ]
    if not candidates:
        return None
    measured = Metric.parse(metric)
    sign = 1 if measured.direction == "max" else -1
    winner = max(candidates, key=lambda trial: (sign * trial.metrics[metric], -trial.metrics.get(SIZE, 0.0)))
    superlative = "highest" if sign > 0 else "lowest"
    assert winner.trial_id is not None, "the trial is done"
    value = winner.metrics[metric]
    shown = f"{100 * value:.1f} %" if measured.on_data else f"{value:.4g}"
    return Recommendation(
        config=records[winner.trial_id].config,
        reason=f"trial {winner.number} has the {superlative} final {metric} of "
        f"{plural(len(candidates), 'finished trial')}: {shown} (one seed)",
        arm=records[winner.trial_id].arm,
        trial_id=winner.trial_id,
        mlflow_run_id=winner.mlflow_run_id,
        seeds=(seed,),
        data_hash=data_hash,
        metrics=winner.metrics,
    )
