"""What is printed: tables and progress for people on stderr or stdout, one JSON object for programs on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console

messages = Console(stderr=True, highlight=False, soft_wrap=True)
"""Progress and remarks; kept off stdout, which `--json` needs for itself."""

output = Console(highlight=False, soft_wrap=True)


def report_problems(problems: Iterable[str], as_json: bool = False) -> None:
    """Prints one line per problem; with `--json` also as an object on stdout."""
    listed = list(problems)
    for problem in listed:
        messages.print(f"[bold red]error:[/] {_plain(problem)}")
    if as_json:
        print_json({"errors": listed})


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def print_json(content: Mapping[str, Any]) -> None:
    """Writes one JSON object to stdout."""
    json.dump(content, sys.stdout, indent=2)
    sys.stdout.write("\n")
