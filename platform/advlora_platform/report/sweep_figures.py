"""Figures of a sweep: its course, the Pareto front, the importance of the parameters."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from advlora.metrics import Metric
from advlora_platform.analysis import SweepResult, SweepSummary, TrialResult
from advlora_platform.report.canvas import Theme, canvas, label, legend, rows
from advlora_platform.report.figures import Painter
from advlora_platform.report.wording import title_of


def draw_history(summary: SweepSummary, theme: Theme) -> Figure | None:
    """Last values in the order of the trials, and the best so far."""
    sweep = summary.sweep
    if not any(trial.metrics for trial in sweep.trials):
        return None
    metric = next(iter(sweep.objectives))
    figure, (axis,) = canvas(theme, 3.6)
    _scatter(axis, sweep, metric, "done", "o", theme.accent, "finished")
    _scatter(axis, sweep, metric, "stopped", "x", theme.faint, "stopped early (not final)")
    best = {number: _scaled(metric, value) for number, value in sweep.best_so_far.items()}
    axis.step(list(best), list(best.values()), where="post", color=theme.good, linewidth=2, label="best so far")
    failed = [trial.number for trial in sweep.trials if trial.status == "failed"]
    for place, number in enumerate(failed):
        name = None if place else "failed"
        axis.axvline(number, color=theme.bad, linewidth=1, linestyle=":", label=name)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    label(axis, theme, x="trial", y=title_of(metric))
    legend(axis, theme)
    return figure


def _scatter(axis: Axes, sweep: SweepResult, metric: str, status: str, mark: str, color: str, name: str) -> None:
    trials = [trial for trial in sweep.trials if trial.status == status and metric in trial.metrics]
    if trials:
        values = [_scaled(metric, trial.metrics[metric]) for trial in trials]
        axis.plot([trial.number for trial in trials], values, mark, color=color, markersize=6, label=name)


def draw_confirmation(summary: SweepSummary, theme: Theme) -> Figure | None:
    """Value in the search against the confirmed one; on the diagonal the search promised nothing too much."""
    found = summary.confirmation
    if found is None or not found.confirmed:
        return None
    metric, strong = summary.metrics.selecting, found.metrics.selecting
    figure, (axis,) = canvas(theme, 4.2)
    pairs = [(_scaled(metric, found.searched[name]), _scaled(strong, value)) for name, value in found.confirmed.items()]
    ends = (min(min(pair) for pair in pairs), max(max(pair) for pair in pairs))
    axis.plot(ends, ends, "--", color=theme.faint, linewidth=1, label="as promised")
    axis.plot(*zip(*pairs, strict=True), "o", color=theme.accent, markersize=7, label="finalist")
    label(axis, theme, x=f"{title_of(metric)} in the search", y=f"{title_of(strong)} confirmed")
    legend(axis, theme)
    return figure


def draw_importance(summary: SweepSummary, theme: Theme) -> Figure | None:
    """Bars, largest first."""
    if not summary.sweep.importance:
        return None
    shares = summary.sweep.importance
    figure, (axis,) = canvas(theme, 0.9 + 0.36 * len(shares))
    axis.barh(range(len(shares)), [100 * value for value in shares.values()], height=0.6, color=theme.accent)
    rows(axis, list(shares))
    label(axis, theme, x="share (%)")
    return figure


def draw_pareto(summary: SweepSummary, theme: Theme) -> Figure | None:
    """Finished trials by the first two objectives."""
    sweep = summary.sweep
    if not sweep.pareto:
        return None
    x, y = list(sweep.objectives)[:2]
    figure, (axis,) = canvas(theme, 4.2)
    done = [trial for trial in sweep.trials if trial.status == "done" and {x, y} <= trial.metrics.keys()]
    front = sorted((t for t in done if t.number in sweep.pareto), key=lambda trial: trial.metrics[x])
    rest = [trial for trial in done if trial not in front]
    axis.plot(*_points(rest, x, y), "o", color=theme.faint, markersize=5, label="dominated")
    # With a third objective the front is no line in two of them.
    line = "-o" if len(sweep.objectives) == 2 else "o"
    axis.plot(*_points(front, x, y), line, color=theme.accent, markersize=7, linewidth=1.5, label="Pareto front")
    for trial, *place in zip(front, *_points(front, x, y), strict=True):
        axis.annotate(str(trial.number), (place[0], place[1]), (5, 5), textcoords="offset points", color=theme.ink)
    label(axis, theme, x=_aim(sweep, x), y=_aim(sweep, y))
    legend(axis, theme)
    return figure


def _aim(sweep: SweepResult, metric: str) -> str:
    return f"{title_of(metric)}, {'more' if sweep.objectives[metric] == 'max' else 'less'} is better"


def _points(trials: Sequence[TrialResult], x: str, y: str) -> tuple[list[float], list[float]]:
    return [_scaled(x, trial.metrics[x]) for trial in trials], [_scaled(y, trial.metrics[y]) for trial in trials]


def _scaled(metric: str, value: float) -> float:
    return 100 * value if Metric.parse(metric).on_data else value


SWEEP_FIGURES: dict[str, Painter[SweepSummary]] = {
    "history": draw_history,
    "confirmation": draw_confirmation,
    "pareto": draw_pareto,
    "importance": draw_importance,
}
