"""`advlora ls`: what ships with the package."""

from __future__ import annotations

import textwrap

import click

from advlora_platform.cli.console import output, print_json, text_width
from advlora_platform.cli.options import json_option

INDENT = 20
"""Columns before a description."""


@click.command("ls", epilog="Example: advlora ls --json")
@json_option
def command(as_json: bool) -> None:
    """List shipped studies, search spaces, models and data sets, each usable by its name."""
    from advlora.shelves import embedded_data, embedded_models
    from advlora_platform.shelves import described

    shelves = {
        "ablations": described("ablation"),
        "search_spaces": described("sweep"),
        "models": dict.fromkeys(embedded_models(), "embedded, pretrained"),
        "data": dict.fromkeys(embedded_data(), "embedded"),
    }
    if as_json:
        print_json(shelves)
        return
    width = text_width()
    for shelf, entries in shelves.items():
        output.print(shelf.replace("_", " "), style="bold")
        for name, description in entries.items():
            lines = textwrap.wrap(description, width - INDENT, break_on_hyphens=False) or [""]
            output.print(f"  {name:<{INDENT - 4}}  {lines[0]}")
            for line in lines[1:]:
                output.print(f"{'':<{INDENT}}{line}")
