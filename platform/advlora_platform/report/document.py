"""The report as plain content: findings, sections, tables and pictures, before any format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tone = Literal["good", "bad", "open", "plain"]


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Attributes:
        header: Headings.
        align: One letter per column: `l` for text, `r` for numbers, `c` for code such as ids.
        rows: Cells, as many as there are headings.
        tones: One per row, or none.
    """

    header: tuple[str, ...]
    align: str
    rows: tuple[tuple[str, ...], ...]
    tones: tuple[Tone, ...] = ()

    def tone(self, row: int) -> Tone:
        """Returns the tone of a row."""
        return self.tones[row] if self.tones else "plain"


@dataclass(frozen=True)
class Picture:
    """A figure by name; it is left out where nothing can be drawn yet."""

    name: str
    caption: str


@dataclass(frozen=True)
class Finding:
    """One sentence of the summary at the top."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    title: str
    text: tuple[str, ...] = ()
    picture: Picture | None = None
    table: Table | None = None
    folded: bool = False
    """Whether a page may hide the table until it is asked for."""


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    kind: str
    description: str
    protocol: str
    facts: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]
    sections: tuple[Section, ...]
