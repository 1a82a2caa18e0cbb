"""The look of the figures: a light and a dark theme, axes, labels. Matplotlib's objects only, no global state."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 160
WIDTH = 9.0
"""Inches."""


@dataclass(frozen=True)
class Theme:
    """Colours that can be told apart with deficient colour vision too; marks differ in shape besides."""

    paper: str
    ink: str
    faint: str
    grid: str
    accent: str
    good: str
    bad: str
    series: tuple[str, ...]


LIGHT = Theme(
    paper="#ffffff",
    ink="#1f2328",
    faint="#8a919a",
    grid="#e4e7eb",
    accent="#1f6feb",
    good="#0f7b5f",
    bad="#c2410c",
    series=("#1f6feb", "#c2410c", "#0f7b5f", "#8250df", "#b58900", "#0e7490"),
)
DARK = Theme(
    paper="#161b22",
    ink="#e6edf3",
    faint="#8b949e",
    grid="#2d333b",
    accent="#6cb0ff",
    good="#4cc9a0",
    bad="#ff9a62",
    series=("#6cb0ff", "#ff9a62", "#4cc9a0", "#c4a3ff", "#e3c15b", "#5fd0e0"),
)


def canvas(theme: Theme, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Makes a figure with one row of axes that share their rows. `height` in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor=theme.paper)
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, columns, squeeze=False, sharey=True)[0])
    for axis in axes:
        axis.set_facecolor(theme.paper)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(theme.faint)
        axis.tick_params(colors=theme.ink, labelsize=9, length=3)
        axis.grid(color=theme.grid, linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, axes


def label(axis: Axes, theme: Theme, x: str = "", y: str = "", title: str = "") -> None:
    """Names the axes; the title stands at the left."""
    axis.set_xlabel(x, color=theme.ink, fontsize=9)
    axis.set_ylabel(y, color=theme.ink, fontsize=9)
    axis.set_title(title, color=theme.ink, fontsize=10, loc="left", fontweight="bold")


def rows(axis: Axes, names: Sequence[str]) -> None:
    """Puts names at the rows of a plot, the first one on top."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")


def legend(axis: Axes, theme: Theme) -> None:
    """Explains the marks."""
    axis.legend(fontsize=8, frameon=False, labelcolor=theme.ink, loc="best")


def png(figure: Figure) -> bytes:
    """Returns a figure as a file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor=figure.get_facecolor())
    return buffer.getvalue()
