"""Figures of the evidence about low rank: energy by rank, ranks by layer, robust accuracy by rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advlora_platform.analysis.estimates import Estimate, estimate
from advlora_platform.lowrank.evidence import CONFIDENCE, Evidence
from advlora_platform.report.ablation_figures import MARKS
from advlora_platform.report.canvas import Theme, canvas, label, legend, png, rows

SIDES = {"adversarial": True, "clean (control)": False}


def draw_evidence(evidence: Evidence, theme: Theme) -> dict[str, bytes]:
    """Draws every figure.

    Returns:
        Name -> PNG.
    """
    painters: dict[str, Callable[[Evidence, Theme], Figure]] = {
        "energy": draw_energy,
        "layers": draw_layers,
        "truncation": draw_truncation,
    }
    return {name: png(painter(evidence, theme)) for name, painter in painters.items()}


def draw_energy(evidence: Evidence, theme: Theme) -> Figure:
    """Share of the energy of the change by number of directions, mean over layers and seeds."""
    figure, (axis,) = canvas(theme, 4.0)
    for (name, adversarial), color, dash in zip(SIDES.items(), theme.series, ("-", "--"), strict=False):
        curves = [layer.energy for change in evidence.of(adversarial) for layer in change.layers.values()]
        shortest = min(len(curve) for curve in curves)
        means = [100 * fmean(curve[place] for curve in curves) for place in range(shortest)]
        axis.plot(range(1, shortest + 1), means, dash, color=color, linewidth=2, label=name)
    axis.axhline(90, color=theme.faint, linewidth=1, linestyle=":")
    axis.set_xscale("log", base=2)
    axis.set_ylim(0, 101)
    label(axis, theme, x="directions", y="energy of the change (%)")
    legend(axis, theme)
    return figure


def draw_layers(evidence: Evidence, theme: Theme) -> Figure:
    """Rank for 90 % of the energy by layer, mean over seeds."""
    names = list(evidence.changes[0].layers)
    figure, (axis,) = canvas(theme, 1.2 + 0.22 * len(names))
    for (name, adversarial), color, mark in zip(SIDES.items(), theme.series, MARKS, strict=False):
        ranks = [fmean(change.layers[layer].rank_90 for change in evidence.of(adversarial)) for layer in names]
        axis.plot(ranks, range(len(names)), mark, color=color, markersize=5, label=name)
    rows(axis, names)
    axis.tick_params(axis="y", labelsize=7)
    axis.set_xlim(0, None)
    label(axis, theme, x="rank for 90 % of the energy")
    legend(axis, theme)
    return figure


def draw_truncation(evidence: Evidence, theme: Theme) -> Figure:
    """Robust accuracy by rank: of the truncated adversarial change, and of adapters trained at that rank."""
    figure, (axis,) = canvas(theme, 4.6)
    cut = {rank: evidence.cut(rank) for rank in evidence.ranks}
    _line(axis, cut, theme.ink, "o", "full fine-tuning, truncated", width=2.5)
    whole = evidence.whole()
    if whole is not None:
        axis.axhline(100 * whole.mean, color=theme.ink, linewidth=1, linestyle=":", label="full fine-tuning")
    for place, (start, ranks) in enumerate(evidence.trained.items()):
        means = {rank: estimate(list(seeds.values()), CONFIDENCE) for rank, seeds in ranks.items()}
        color, mark = theme.series[place % len(theme.series)], MARKS[place % len(MARKS)]
        _line(axis, means, color, mark, f"trained: {start}", width=1.5)
    ticks = sorted({*evidence.ranks, *(rank for ranks in evidence.trained.values() for rank in ranks)})
    axis.set_xscale("symlog", base=2, linthresh=1)
    axis.set_xticks(ticks, [str(rank) for rank in ticks])
    axis.set_ylim(0, None)
    label(axis, theme, x="rank", y="robust accuracy on test (%)")
    legend(axis, theme)
    return figure


def _line(axis: Axes, found: dict[int, Estimate | None], color: str, mark: str, name: str, width: float) -> None:
    known = {rank: each for rank, each in found.items() if each is not None}
    means: Sequence[float] = [100 * each.mean for each in known.values()]
    margins = [100 * (each.half_width or 0.0) for each in known.values()]
    axis.errorbar(
        list(known), means, yerr=margins, fmt=f"-{mark}", color=color, linewidth=width, markersize=5, capsize=2,
        elinewidth=0.8, label=name,
    )  # fmt: skip
