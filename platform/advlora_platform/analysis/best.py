"""Which configuration a study recommends, and why. Selected on `val`, by the last value, never by a lucky peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advlora.metrics import SIZES, Metric
from advlora_platform.analysis.arms import ArmResult
from advlora_platform.analysis.trials import TrialResult
from advlora_platform.analysis.words import plural
from advlora_platform.study.constraints import Constraint, all_met
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
    arms: Sequence[ArmResult],
    metric: str,
    records: Mapping[str, Record],
    data_hash: str,
    confidence: float,
    limits: Sequence[Constraint] = (),
) -> Recommendation | None:
    """Returns the arm with the best mean, at the study's first seed; the cheaper of equal ones.

    An arm with a trial that is not done, or whose robust accuracy cannot be trusted, does not compete; nor does one in
    which nothing is trained, or whose means do not keep the `limits`.
    """
    complete = [
        arm for arm in arms if arm.complete and arm.reliable and arm.adapter != "none" and metric in arm.estimates
    ]
    candidates = [arm for arm in complete if all_met(limits, _means(arm))]
    if not candidates:
        return None
    sign = _sign(metric)
    winner = max(candidates, key=lambda arm: (sign * arm.estimates[metric].mean, -_means(arm).get(SIZE, 0.0)))
    return _first_of(winner, _arm_reason(winner, metric, len(candidates), confidence, limits), records, data_hash)


def asked_arm(
    arm: ArmResult, metric: str, records: Mapping[str, Record], data_hash: str, confidence: float
) -> Recommendation | None:
    """Returns an arm that a person named, at the first of its seeds that is done; None where none is."""
    if not arm.done:
        return None
    mean = f": mean {metric} {_mean_text(arm, metric, confidence)}" if metric in arm.estimates else ""
    return _first_of(arm, f"'{arm.name}' as asked{mean}", records, data_hash)


def _first_of(arm: ArmResult, reason: str, records: Mapping[str, Record], data_hash: str) -> Recommendation:
    done = [trial for trial in arm.trials if trial.status == "done"]
    trial = done[0]
    assert trial.trial_id is not None, "the trial is done"
    return Recommendation(
        config=records[trial.trial_id].config,
        reason=reason,
        arm=arm.name,
        trial_id=trial.trial_id,
        mlflow_run_id=trial.mlflow_run_id,
        seeds=tuple(trial.seed for trial in done),
        data_hash=data_hash,
        metrics=trial.metrics,
    )


def _means(arm: ArmResult) -> dict[str, float]:
    return {metric: found.mean for metric, found in arm.estimates.items()}


def _sign(metric: str) -> int:
    """Returns 1 where more is better, -1 where less is."""
    return 1 if Metric.parse(metric).direction == "max" else -1


def _shown(metric: str, value: float) -> str:
    return f"{100 * value:.1f} %" if Metric.parse(metric).on_data else f"{value:.4g}"


def _kept(limits: Sequence[Constraint]) -> str:
    return "".join(f", with {limit}" for limit in limits)


def _arm_reason(
    winner: ArmResult, metric: str, candidates: int, confidence: float, limits: Sequence[Constraint]
) -> str:
    superlative = "highest" if _sign(metric) > 0 else "lowest"
    return (
        f"'{winner.name}' has the {superlative} mean {metric} of {plural(candidates, 'complete arm')}{_kept(limits)}: "
        f"{_mean_text(winner, metric, confidence)}"
    )


def _mean_text(arm: ArmResult, metric: str, confidence: float) -> str:
    mean = arm.estimates[metric]
    interval = (
        "no interval from one seed"
        if mean.low is None or mean.high is None
        else f"{100 * confidence:g} % interval {_shown(metric, mean.low).removesuffix(' %')} to "
        f"{_shown(metric, mean.high).removesuffix(' %')}"
    )
    return f"{_shown(metric, mean.mean)} over {plural(mean.n, 'seed')} ({interval})"


def best_trial(
    trials: Sequence[TrialResult],
    metric: str,
    records: Mapping[str, Record],
    seed: int,
    data_hash: str,
    limits: Sequence[Constraint] = (),
) -> Recommendation | None:
    """Returns the finished, reliable trial with the best last value of the first objective; the cheaper of equals.

    Only trials that keep the `limits` compete.
    """
    finished = [
        trial for trial in trials if trial.status == "done" and not trial.unreliable and metric in trial.metrics
    ]
    candidates = [trial for trial in finished if all_met(limits, trial.metrics)]
    if not candidates:
        return None
    sign = _sign(metric)
    winner = max(candidates, key=lambda trial: (sign * trial.metrics[metric], -trial.metrics.get(SIZE, 0.0)))
    superlative = "highest" if sign > 0 else "lowest"
    assert winner.trial_id is not None, "the trial is done"
    value = _shown(metric, winner.metrics[metric])
    return Recommendation(
        config=records[winner.trial_id].config,
        reason=f"trial {winner.number} has the {superlative} final {metric} of "
        f"{plural(len(candidates), 'finished trial')}{_kept(limits)}: {value} (one seed)",
        arm=records[winner.trial_id].arm,
        trial_id=winner.trial_id,
        mlflow_run_id=winner.mlflow_run_id,
        seeds=(seed,),
        data_hash=data_hash,
        metrics=winner.metrics,
    )
