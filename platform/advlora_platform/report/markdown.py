"""The report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from advlora_platform.report.document import Document, Part, Table

_RULES = {"l": ":--", "r": "--:", "c": ":--"}


def to_markdown(document: Document, figures: Collection[str]) -> str:
    """Renders a document.

    Args:
        document: The report.
        figures: Names of the figures that exist, as `figures/NAME.png` beside the file.
    """
    lines = [f"# {_plain(document.title)} ({document.kind})", ""]
    lines += [_plain(document.description), ""] if document.description else []
    lines += [f"Trials: {_plain(document.progress)}.", ""] if document.progress else []
    lines += [f"Protocol: {_plain(document.protocol)}.", "", "## Findings", ""]
    lines += [f"- {_plain(finding.text)}" for finding in document.findings]
    for section in document.parts:
        lines += ["", *_section(section, figures)]
    lines += ["", "## Provenance", "", *(f"- {name}: {_plain(value)}" for name, value in document.facts)]
    return "\n".join(lines) + "\n"


def _section(section: Part, figures: Collection[str]) -> Iterator[str]:
    yield f"## {_plain(section.title)}"
    for paragraph in section.text:
        yield from ("", _plain(paragraph))
    if section.picture is not None and section.picture.name in figures:
        yield from ("", f"![{section.picture.caption}](figures/{section.picture.name}.png)")
    if section.table is not None:
        yield from ("", *_table(section.table.full()))


def _table(table: Table) -> Iterator[str]:
    yield _row(table.header)
    yield _row(tuple(_RULES[column] for column in table.align))
    for row in table.rows:
        code = zip(row, table.align, strict=True)
        yield _row(tuple(f"`{cell}`" if column == "c" else _plain(cell) for cell, column in code))


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Keeps names and messages from being read as markup."""
    return re.sub(r"([\\`*\[\]|<>]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))
