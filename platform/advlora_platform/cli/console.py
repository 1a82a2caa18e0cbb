"""What is printed: tables and progress for people on stderr or stdout, one JSON object for programs on stdout.

Names and messages of users may hold brackets, so nothing is read as markup unless its printer says so.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from advlora.progress import shown_by

if TYPE_CHECKING:
    from advlora_platform.report.document import Document

messages = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
"""Progress and remarks; kept off stdout, which `--json` needs for itself."""

NARROW, WIDTH = 80, 110
"""Columns of text that is not printed to a terminal, and at most."""

output = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


@contextmanager
def status(text: str) -> Iterator[Status]:
    """Shows on a terminal what is being done, and how far reading has come, as long as the context is open."""
    with messages.status(escape(text)) as shown:

        def tell(noun: str, done: int, total: int) -> None:
            shown.update(escape(f"{text}: {done:,} of {total:,} {noun}"))

        with shown_by(tell):
            yield shown


@contextmanager
def phase(text: str) -> Iterator[None]:
    """Says that a phase of a command begins, what it is doing, and how long it took."""
    messages.print(f"{text} ...")
    begin = time.perf_counter()
    with status(text):
        yield
    messages.print(f"{text}: {time.perf_counter() - begin:.1f} s")


def report_problems(problems: Iterable[str], as_json: bool = False) -> None:
    """Prints one line per problem; with `--json` also as an object on stdout."""
    listed = list(problems)
    for problem in listed:
        messages.print(f"[bold red]error:[/] {escape(problem)}", markup=True)
    if as_json:
        print_json({"errors": listed})


def text_width(console: Console = output) -> int:
    """Returns how wide text may be: as the terminal is, at most as a report."""
    return min(console.width, WIDTH) if console.is_terminal else NARROW


def print_report(document: Document) -> None:
    """Prints the brief parts of a report, as wide as the terminal allows."""
    from advlora_platform.report.terminal import to_terminal

    output.print(to_terminal(document, text_width()), markup=True)


def print_json(content: Mapping[str, Any]) -> None:
    """Writes one JSON object to stdout."""
    json.dump(content, sys.stdout, indent=2)
    sys.stdout.write("\n")
