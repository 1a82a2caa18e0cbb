"""What a figure of a report is: a painter by name, which draws a summary in a theme."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from matplotlib.figure import Figure

from advlora_platform.analysis import Summary
from advlora_platform.report.canvas import Theme, png

AnySummary = TypeVar("AnySummary", bound=Summary)
Painter = Callable[[AnySummary, Theme], Figure | None]
"""Returns None where there is nothing to draw yet."""


def draw(painters: Mapping[str, Painter[AnySummary]], summary: AnySummary, theme: Theme) -> dict[str, bytes]:
    """Draws what can be drawn.

    Returns:
        Name -> PNG.
    """
    figures = {name: painter(summary, theme) for name, painter in painters.items()}
    return {name: png(figure) for name, figure in figures.items() if figure is not None}
