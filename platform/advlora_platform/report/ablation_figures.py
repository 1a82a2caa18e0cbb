"""Figures of an ablation: arms, effects of the factors, robust accuracy against the epsilon of the attack."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advlora.metrics import readable_epsilon
from advlora_platform.analysis import AblationSummary, ArmResult, Contrast, Estimate
from advlora_platform.report.canvas import Theme, canvas, label, legend, rows
from advlora_platform.report.figures import Painter
from advlora_platform.report.wording import title_of

MARKS = ("o", "s", "^", "D", "v", "P")
"""As many as a theme has colours for series."""


def draw_arms(summary: AblationSummary, theme: Theme) -> Figure | None:
    """Dots with intervals by arm, on test."""
    arms = [arm for arm in summary.arms if arm.estimates]
    if not arms:
        return None
    figure, axes = canvas(theme, 1.2 + 0.34 * len(summary.arms), 2)
    for axis, metric in zip(axes, (summary.metrics.test_robust, summary.metrics.test_clean), strict=True):
        label(axis, theme, title=title_of(metric))
        for row, arm in enumerate(summary.arms):
            _arm(axis, row, arm, metric, theme, chosen=summary.best is not None and summary.best.arm == arm.name)
        rows(axis, [arm.name for arm in summary.arms])
    return figure


def _arm(axis: Axes, row: int, arm: ArmResult, metric: str, theme: Theme, chosen: bool) -> None:
    found = arm.estimates.get(metric)
    if found is None:
        axis.text(
            0.02, row, "no result", color=theme.bad, fontsize=8, va="center", transform=axis.get_yaxis_transform()
        )
        return
    color = theme.accent if chosen else theme.ink
    seeds = [100 * value for value in arm.by_seed(metric).values()]
    axis.plot(_interval(found), [row] * len(_interval(found)), color=color, linewidth=2, solid_capstyle="round")
    axis.plot(seeds, [row + 0.22] * len(seeds), ".", color=theme.faint, markersize=4)
    axis.plot([100 * found.mean], [row], "o", color=color, markersize=7 if chosen else 6)


def draw_effects(summary: AblationSummary, theme: Theme) -> Figure | None:
    """A forest of main effects and, below them, interactions; robust beside clean accuracy."""
    answers = (*summary.effects, *summary.interactions)
    if not any(answer.estimate for answer in answers):
        return None
    names = list(dict.fromkeys(answer.name for answer in answers))
    figure, axes = canvas(theme, 1.3 + 0.42 * len(names), 2)
    for axis, metric in zip(axes, (summary.metrics.test_robust, summary.metrics.test_clean), strict=True):
        axis.axvspan(-summary.margin, summary.margin, color=theme.grid, alpha=0.6, linewidth=0)
        axis.axvline(0, color=theme.ink, linewidth=1)
        label(axis, theme, x="difference (points)", title=title_of(metric).removesuffix(" (%)"))
        for answer in answers:
            if answer.metric == metric:
                _effect(axis, names.index(answer.name), answer, theme)
        if summary.interactions:
            axis.axhline(len({e.name for e in summary.effects}) - 0.5, color=theme.grid, linewidth=1.2)
        rows(axis, names)
    return figure


def _effect(axis: Axes, row: int, answer: Contrast, theme: Theme) -> None:
    if answer.estimate is None:
        return
    color = {"better": theme.good, "worse": theme.bad, "equivalent": theme.ink}.get(answer.outcome, theme.faint)
    resolved = answer.outcome != "unresolved"
    ends = _interval(answer.estimate)
    axis.plot(ends, [row] * len(ends), color=color, linewidth=2, solid_capstyle="round")
    axis.plot(
        [100 * answer.estimate.mean],
        [row],
        "o",
        color=color,
        markerfacecolor=color if resolved else theme.paper,
        markeredgewidth=1.6,
        markersize=7,
    )


def draw_curve(summary: AblationSummary, theme: Theme) -> Figure | None:
    """Robust accuracy against epsilon; the arms that matter in colour, the others in grey."""
    curve = summary.metrics.curve
    arms = [arm for arm in summary.arms if any(metric in arm.estimates for metric in curve)]
    if not curve or not arms:
        return None
    figure, (axis,) = canvas(theme, 4.2)
    looks = dict(zip(_notable(summary, arms), zip(theme.series, MARKS, strict=True), strict=False))
    for arm in sorted(arms, key=lambda arm: arm.name in looks):
        _curve(axis, summary, arm, looks.get(arm.name), theme)
    if len(looks) < len(arms):
        axis.plot([], [], "-", color=theme.faint, linewidth=1, label="other arms")
    axis.set_ylim(0, None)
    ticks = [0.0, *curve.values()]
    axis.set_xticks(ticks, ["0", *(readable_epsilon(epsilon) for epsilon in curve.values())])
    label(axis, theme, x="epsilon of the attack", y="accuracy on test (%)")
    legend(axis, theme)
    return figure


def _notable(summary: AblationSummary, arms: Sequence[ArmResult]) -> list[str]:
    """Names the arms to tell apart: the best, the reference, every factor on, the pretrained model, other controls."""
    whole = [arm.name for arm in arms if arm.factors and all(arm.factors.values())]
    best = [summary.best.arm] if summary.best is not None else []
    further = sorted((arm for arm in arms if arm.factors is None), key=lambda arm: arm.adapter != "none")
    known = {arm.name for arm in arms}
    wanted = dict.fromkeys((*best, summary.reference, *whole, *(arm.name for arm in further)))
    return [name for name in wanted if name in known]


def _curve(axis: Axes, summary: AblationSummary, arm: ArmResult, look: tuple[str, str] | None, theme: Theme) -> None:
    curve = {summary.metrics.test_clean: 0.0, **summary.metrics.curve}
    known = [metric for metric in curve if metric in arm.estimates]
    color, mark = look or (theme.faint, "")
    axis.plot(
        [curve[metric] for metric in known],
        [100 * arm.estimates[metric].mean for metric in known],
        f"-{mark}",
        color=color,
        linewidth=2 if look else 1,
        alpha=1 if look else 0.5,
        markersize=5,
        label=arm.name if look else None,
    )


def _interval(found: Estimate) -> list[float]:
    return [100 * found.mean] if found.low is None or found.high is None else [100 * found.low, 100 * found.high]


ABLATION_FIGURES: dict[str, Painter[AblationSummary]] = {
    "arms": draw_arms,
    "effects": draw_effects,
    "curve": draw_curve,
}
