"""The report of a study before any format: its document, its figures, and its data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from advlora_platform.analysis import AblationSummary, SweepSummary
from advlora_platform.report.ablation_figures import ABLATION_FIGURES
from advlora_platform.report.canvas import Theme
from advlora_platform.report.content import ablation_document, sweep_document
from advlora_platform.report.document import Document
from advlora_platform.report.figures import draw
from advlora_platform.report.sweep_figures import SWEEP_FIGURES


@dataclass(frozen=True)
class Report:
    """What is written about a study.

    Attributes:
        document: Findings, sections and tables.
        figures: Draws the figures in a theme: name -> PNG.
        data: The summary for programs.
    """

    document: Document
    figures: Callable[[Theme], dict[str, bytes]]
    data: dict[str, Any]


def ablation_report(summary: AblationSummary) -> Report:
    """Returns the report of an ablation."""
    return Report(ablation_document(summary), partial(draw, ABLATION_FIGURES, summary), summary.to_json())


def sweep_report(summary: SweepSummary) -> Report:
    """Returns the report of a sweep."""
    return Report(sweep_document(summary), partial(draw, SWEEP_FIGURES, summary), summary.to_json())
