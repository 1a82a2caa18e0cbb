"""All figures of a report by name."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure

from advlora_platform.analysis import Summary
from advlora_platform.report.ablation_figures import draw_arms, draw_curve, draw_effects
from advlora_platform.report.canvas import Theme, png
from advlora_platform.report.sweep_figures import draw_confirmation, draw_history, draw_importance, draw_pareto

PAINTERS: dict[str, Callable[[Summary, Theme], Figure | None]] = {
    "arms": draw_arms,
    "effects": draw_effects,
    "curve": draw_curve,
    "history": draw_history,
    "confirmation": draw_confirmation,
    "pareto": draw_pareto,
    "importance": draw_importance,
}


def draw(summary: Summary, theme: Theme) -> dict[str, bytes]:
    """Draws what can be drawn.

    Returns:
        Name -> PNG.
    """
    figures = {name: painter(summary, theme) for name, painter in PAINTERS.items()}
    return {name: png(figure) for name, figure in figures.items() if figure is not None}
