"""The tables of a report for programs and papers: a `DataFrame` with exact numbers, CSV, LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from advlora_platform.report.document import Document, Table
from advlora_platform.report.wording import Quantity
from advlora_platform.study.folder import write_text

_SIGNS = {"±": r"$\pm$", "–": "--", "µ": r"$\mu$", "…": r"\dots{}"}


def frames(document: Document) -> dict[str, pd.DataFrame]:
    """Returns every table of a report by the name of its section, such as `arms` or `effects-of-the-factors`."""
    return {name: to_frame(table) for name, table in _tables(document).items()}


def to_frame(table: Table) -> pd.DataFrame:
    """Returns a table with exact numbers, in the unit of their heading; what is not known is NaN.

    The interval of a column `x` is in `x low` and `x high`.
    """
    whole = table.full()
    columns: dict[str, list[object]] = {}
    for place, heading in enumerate(whole.header):
        columns |= _columns(heading, [row[place] for row in whole.rows], whole.align[place])
    return pd.DataFrame(columns)


def to_latex(table: Table, caption: str, label: str) -> str:
    """Returns a table as LaTeX with the rules of `booktabs`, its numbers as the report shows them."""
    whole = table.full()
    text: str = pd.DataFrame(whole.rows, columns=list(whole.header)).to_latex(
        index=False, escape=True, column_format=whole.align.replace("c", "l"), caption=_escaped(caption), label=label
    )
    for sign, code in _SIGNS.items():
        text = text.replace(sign, code)
    return text


def write_tables(document: Document, folder: Path) -> None:
    """Writes every table of a report as CSV and LaTeX; those that it no longer has are removed."""
    wanted = set()
    for name, table in _tables(document).items():
        for suffix, text in (
            ("csv", to_frame(table).to_csv(index=False, float_format="%.10g")),
            ("tex", to_latex(table, f"{document.title}: {name.replace('-', ' ')}", f"tab:{name}")),
        ):
            wanted.add(folder / f"{name}.{suffix}")
            write_text(folder / f"{name}.{suffix}", text)
    for path in {*folder.glob("*.csv"), *folder.glob("*.tex")} - wanted:
        path.unlink()


def _tables(document: Document) -> dict[str, Table]:
    found = {part.title: part.table for part in document.parts if part.table is not None}
    return {re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-"): table for title, table in found.items()}


def _columns(heading: str, cells: Sequence[str], align: str) -> dict[str, list[object]]:
    """Returns one column; three where any number has an interval."""
    if not any(isinstance(cell, Quantity) for cell in cells):
        whole = align == "r" and all(re.fullmatch(r"-?\d+", cell) for cell in cells)
        return {heading: [int(cell) if whole else str(cell) for cell in cells]}
    numbers = [cell.numbers if isinstance(cell, Quantity) else () for cell in cells]
    names = (heading, f"{heading} low", f"{heading} high")[: max(map(len, numbers))]
    return {name: [row[place] if place < len(row) else math.nan for row in numbers] for place, name in enumerate(names)}


def _escaped(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text)
