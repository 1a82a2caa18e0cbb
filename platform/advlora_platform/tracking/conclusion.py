"""What a study found, written into its MLflow runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from advlora_platform.tracking.experiments import LONGEST_NAME, metric_names

if TYPE_CHECKING:
    from advlora_platform.analysis import ArmResult, Summary
    from advlora_platform.tracking.runs import StudyRuns

IMAGES = (".png", ".svg")


def log_conclusion(runs: StudyRuns, summary: Summary, files: Sequence[Path]) -> None:
    """Logs estimates to the arms, answers and files to the study, and ends these runs; may be repeated.

    Args:
        runs: The runs of the study, as the store has them now.
        summary: What was found.
        files: Report and figures; images go below `figures/`.
    """
    for arm in summary.every_arm:
        runs.answer(runs.arm(arm.name), arm_metrics(arm), {"advlora.seeds": f"{arm.done} of {len(arm.trials)}"})
        runs.end(runs.arm(arm.name), complete=arm.complete)
    runs.mark_best(None if summary.best is None else summary.best.trial_id)
    tags = {**_tags(summary, runs.trials()), **_verdicts(summary)}
    runs.answer(runs.study(), study_metrics(summary), tags)
    for file in files:
        runs.attach(runs.study(), file, "figures" if file.suffix in IMAGES else None)
    runs.end(runs.study(), complete=summary.complete)


def arm_metrics(arm: ArmResult) -> dict[str, float]:
    """Returns `mean/<metric>` and its like over the seeds that are done."""
    return {
        f"{statistic}/{metric}": value
        for metric, found in arm.estimates.items()
        for statistic in ("mean", "sd", "n", "low", "high")
        if (value := getattr(found, statistic)) is not None
    }


def study_metrics(summary: Summary) -> dict[str, float]:
    """Returns counts, the best trial's metrics, and the answers of the study."""
    best = {} if summary.best is None else summary.best.metrics
    return {
        **{f"count/{status}": float(number) for status, number in summary.counts.items()},
        **{f"best/{metric}": value for metric, value in best.items()},
        **summary.answers(),
    }


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


def _verdicts(summary: Summary) -> dict[str, str]:
    """Returns `advlora.verdict.<name as in metrics>` -> the verdict."""
    verdicts = summary.verdicts()
    names = metric_names(verdicts)
    return {f"advlora.verdict.{names[name]}"[:LONGEST_NAME]: verdict for name, verdict in verdicts.items()}
