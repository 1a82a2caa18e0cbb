"""The report as plain content: findings, sections, tables and pictures, before any format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
        shown: One letter per column: `a` for always, `f` for full reports only, `t` for a terminal only, which is
            narrow; empty where every column is always shown.
        brief: Numbers of the rows that a terminal shows; None for all.
    """

    header: tuple[str, ...]
    align: str
    rows: tuple[tuple[str, ...], ...]
    tones: tuple[Tone, ...] = ()
    shown: str = ""
    brief: tuple[int, ...] | None = None

    def full(self) -> Table:
        """Returns the table as full reports show it."""
        return self.only([number for number, letter in enumerate(self._letters()) if letter != "t"])

    def for_terminal(self) -> Table:
        """Returns the table as a terminal shows it."""
        chosen = self.only([number for number, letter in enumerate(self._letters()) if letter != "f"])
        if self.brief is None:
            return chosen
        tones = tuple(self.tone(row) for row in self.brief)
        return replace(chosen, rows=tuple(chosen.rows[row] for row in self.brief), tones=tones)

    def only(self, columns: Sequence[int]) -> Table:
        """Returns the table with some of its columns, and all its rows."""
        header = tuple(self.header[column] for column in columns)
        align = "".join(self.align[column] for column in columns)
        return Table(header, align, tuple(tuple(row[column] for column in columns) for row in self.rows), self.tones)

    def _letters(self) -> str:
        return self.shown or "a" * len(self.header)

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
    brief: bool = True
    """Whether a terminal shows it too; not where a table beside it says the same."""


@dataclass(frozen=True)
class Part:
    """A part of the report."""

    title: str
    text: tuple[str, ...] = ()
    picture: Picture | None = None
    table: Table | None = None
    folded: bool = False
    """Whether a page may hide the table until it is asked for."""
    brief: bool = False
    """Whether a terminal shows the table too."""


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    kind: str
    description: str
    protocol: str
    facts: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]
    parts: tuple[Part, ...]
    progress: str = ""
    """How many trials are done, and what became of the others."""
