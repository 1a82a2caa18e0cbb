"""Writes the report of a study into its folder."""

from __future__ import annotations

from pathlib import Path

from advlora_platform.report.canvas import DARK, LIGHT
from advlora_platform.report.frames import write_tables
from advlora_platform.report.markdown import to_markdown
from advlora_platform.report.page import to_html
from advlora_platform.report.reports import Report
from advlora_platform.study.folder import StudyFolder, write_json, write_text


def write_report(report: Report, folder: StudyFolder) -> list[Path]:
    """Writes summary, report, figures and tables; what is no longer drawn or listed is removed.

    Returns:
        Every file that was written, but for the tables, which the report holds too.
    """
    light = report.figures(LIGHT)
    write_json(folder.summary, report.data)
    figures = _write_figures(light, folder.figures)
    write_text(folder.report_markdown, to_markdown(report.document, light))
    write_text(folder.report_html, to_html(report.document, light, report.figures(DARK)))
    write_tables(report.document, folder.tables)
    return [folder.summary, folder.report_markdown, folder.report_html, *figures]


def _write_figures(figures: dict[str, bytes], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{name}.png" for name in figures]
    for path, content in zip(written, figures.values(), strict=True):
        path.write_bytes(content)
    for path in set(folder.glob("*.png")) - set(written):
        path.unlink()
    return written
