"""What a study found, written into its MLflow runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advlora_platform.analysis import ArmResult, Contrast, Summary
    from advlora_platform.tracking.runs import StudyRuns

IMAGES = (".png", ".svg")


def log_conclusion(runs: StudyRuns, summary: Summary, files: Sequence[Path]) -> None:
    """Logs estimates to the arms, answers and files to the study, and ends these runs; may be repeated.

    Args:
        runs: The runs of the study, as the store has them now.
        summary: What was found.
        files: Report and figures; images go below `figures/`.
    """
    for arm in summary.arms:
        runs.answer(runs.arm(arm.name), arm_metrics(arm), {"advlora.seeds": f"{arm.done} of {len(arm.trials)}"})
        runs.end(runs.arm(arm.name), complete=arm.complete)
    runs.mark_best(None if summary.best is None else summary.best.trial_id)
    runs.answer(runs.study(), study_metrics(summary), _tags(summary, runs.trials()))
    for file in files:
        runs.attach(runs.study(), file, "figures" if file.suffix in IMAGES else None)
    runs.end(runs.study(), complete=_complete(summary))


def arm_metrics(arm: ArmResult) -> dict[str, float]:
    """Returns `mean/<metric>` and its like over the seeds that are done."""
    return _present(
        (f"{statistic}/{metric}", getattr(found, statistic))
        for metric, found in arm.estimates.items()
        for statistic in ("mean", "sd", "n", "low", "high")
    )


def study_metrics(summary: Summary) -> dict[str, float]:
    """Returns counts, the best trial's metrics, effects with intervals, and importance."""
    best = {} if summary.best is None else summary.best.metrics
    importance = (summary.sweep.importance if summary.sweep is not None else None) or {}
    return {
        **{f"count/{status}": float(number) for status, number in summary.counts.items()},
        **{f"best/{metric}": value for metric, value in best.items()},
        **_contrasts("effect", summary.effects),
        **_contrasts("interaction", summary.interactions),
        **_contrasts("comparison", summary.comparisons),
        **{f"importance/{name}": share for name, share in importance.items()},
    }


def _contrasts(kind: str, found: Sequence[Contrast]) -> dict[str, float]:
    """Returns `effect/<factor>/<metric>` and, with `_low`, `_high` and `_p` (Holm) after the kind, its certainty."""
    measured = [(f"{each.name}/{each.metric}", each, each.estimate) for each in found if each.estimate is not None]
    return _present(
        (f"{kind}{part}/{name}", value)
        for name, each, estimate in measured
        for part, value in (
            ("", estimate.mean),
            ("_low", estimate.low),
            ("_high", estimate.high),
            ("_p", each.p_holm),
        )
    )


def _present(pairs: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    return {name: value for name, value in pairs if value is not None}


def _tags(summary: Summary, trials: Mapping[str, str]) -> dict[str, str]:
    """Names the best trial, and says in the study's description why it was chosen."""
    best = summary.best
    if best is None:
        return {}
    return {
        "advlora.best_arm": best.arm,
        "advlora.best_trial": best.trial_id,
        "advlora.best_run": trials.get(best.trial_id, ""),
        "mlflow.note.content": f"{summary.description}\n\n{best.reason}".strip(),
    }


def _complete(summary: Summary) -> bool:
    """Whether nothing is left to do: every trial of an ablation ended; a sweep may end early, by its time budget."""
    open_trials = summary.counts["running"] + (summary.counts["missing"] if summary.sweep is None else 0)
    return open_trials == 0 and summary.counts["done"] > 0
