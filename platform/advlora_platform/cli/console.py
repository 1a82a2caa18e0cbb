"""What is printed: tables and progress for people on stderr or stdout, one JSON object for programs on stdout.

Names and messages of users may hold brackets, so nothing is read as markup unless its printer says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status

if TYPE_CHECKING:
    from advlora_platform.report.document import Document

messages = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
"""Progress and remarks; kept off stdout, which `--json` needs for itself."""

output = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


def status(text: str) -> Status:
    """Shows on a terminal what is being done, as long as the returned context is open."""
    return messages.status(escape(text))


def report_problems(problems: Iterable[str], as_json: bool = False) -> None:
    """Prints one line per problem; with `--json` also as an object on stdout."""
    listed = list(problems)
    for problem in listed:
        messages.print(f"[bold red]error:[/] {escape(problem)}", markup=True)
    if as_json:
        print_json({"errors": listed})


def print_report(document: Document) -> None:
    """Prints the brief parts of a report, as wide as the terminal allows."""
    from advlora_platform.report.terminal import to_terminal

    output.print(to_terminal(document, text_width()), markup=True)


def text_width() -> int:
    """Returns how many columns of text are printed."""
    from advlora_platform.report.terminal import WIDTH

    return min(output.width, WIDTH) if output.is_terminal else WIDTH


def print_json(content: Mapping[str, Any]) -> None:
    """Writes one JSON object to stdout."""
    json.dump(content, sys.stdout, indent=2)
    sys.stdout.write("\n")
