"""The report in a terminal: what is marked as brief, in columns that fit, with rich markup for tone only."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rich.markup import escape

from advlora_platform.report.document import Document, Table, Tone

WIDTH = 110
"""Columns of text where the terminal has as many, or there is none."""
GAP = "  "
NAME = 20
"""A first column of text is not cut to less than this."""
TEXT = 20
"""A last column of text is not wrapped to less than this."""
STYLES: dict[Tone, str] = {"good": "green", "bad": "red", "open": "yellow", "plain": ""}


def to_terminal(document: Document, width: int = WIDTH) -> str:
    """Renders the brief parts of a document as text with rich markup.

    Args:
        document: The report.
        width: No line is longer.
    """
    lines = [f"[bold]{escape(document.title)}[/] ({escape(document.kind)}): {document.progress}"]
    for section in document.parts:
        if section.brief and section.table is not None:
            lines += ["", f"[bold]{escape(section.title)}[/]", *_table(section.table, width)]
    lines += ["", *_paragraph(f"Protocol: {document.protocol}.", width)]
    for finding in document.findings:
        if finding.brief:
            lines += _paragraph(finding.text, width, STYLES[finding.tone])
    return "\n".join(lines)


def terminal_table(table: Table, width: int = WIDTH) -> str:
    """Renders a table as text with rich markup."""
    return "\n".join(_table(table, width))


def _table(table: Table, width: int) -> Iterator[str]:
    shown = table.for_terminal()
    for number, block in enumerate(_blocks(shown, width)):
        yield from ([""] if number else [])
        yield from _block(block, width)
    left = len(table.rows) - len(shown.rows)
    if left:
        yield f"... and {left} more in the report"


def _blocks(table: Table, width: int) -> Iterator[Table]:
    """Splits a table by columns into tables that fit; each repeats the first column, which names the rows."""
    least = _least(table)
    block, used = [0], least[0]
    for column in range(1, len(least)):
        needed = len(GAP) + least[column]
        if len(block) > 1 and used + needed > width:
            yield table.only(block)
            block, used = [0], least[0]
        block, used = [*block, column], used + needed
    yield table.only(block)


def _block(table: Table, width: int) -> Iterator[str]:
    """Sets columns side by side: names give way first, then a text in the last column continues below."""
    widths, last = _natural(table), len(table.header) - 1
    for column in (0, last):
        if table.align[column] == "l":
            rest = sum(widths) - widths[column] + len(GAP) * last
            widths[column] = min(widths[column], max(_least(table)[column], width - rest))
    for line in _lines(table.header, table.align, widths):
        yield f"[dim]{escape(line)}[/]"
    for number, row in enumerate(table.rows):
        for line in _lines(row, table.align, widths):
            yield _styled(line, STYLES[table.tone(number)])


def _lines(cells: Sequence[str], align: str, widths: Sequence[int]) -> Iterator[str]:
    """Yields the lines of one row: more than one where the text in the last column does not fit."""
    *others, text = (" ".join(cell.split()) for cell in cells)
    pieces = textwrap.wrap(text, widths[-1], break_on_hyphens=False) if others and align[-1] == "l" else [text]
    for number, piece in enumerate(pieces or [""]):
        row = (*((cell if number == 0 else "") for cell in others), piece)
        parts = [
            cell.rjust(width) if column == "r" else _shortened(cell, width).ljust(width)
            for cell, column, width in zip(row, align, widths, strict=True)
        ]
        yield GAP.join(parts).rstrip()


def _natural(table: Table) -> list[int]:
    """Returns the width of every column at which nothing in it is cut or wrapped."""
    columns = zip(table.header, *table.rows, strict=True)
    return [max(len(" ".join(cell.split())) for cell in column) for column in columns]


def _least(table: Table) -> list[int]:
    """Returns the smallest width of every column: no number is cut, and no word of a text that is wrapped."""
    widths, last = _natural(table), len(table.header) - 1
    if last and table.align[last] == "l":
        words = (word for row in (table.header, *table.rows) for word in row[last].split())
        widths[last] = min(widths[last], max([TEXT, *map(len, words)]))
    if table.align[0] == "l":
        widths[0] = min(widths[0], NAME)
    return widths


def _paragraph(text: str, width: int, style: str = "") -> list[str]:
    lines = textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
    return [_styled(line, style) for line in lines]


def _styled(text: str, style: str) -> str:
    return f"[{style}]{escape(text)}[/]" if style else escape(text)


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
