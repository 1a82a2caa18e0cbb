"""`advlora ls`: what ships with the package."""

from __future__ import annotations

import click

from advlora_platform.cli.console import output, print_json
from advlora_platform.cli.options import json_option


@click.command("ls", epilog="Example: advlora ls --json")
@json_option
def command(as_json: bool) -> None:
    """List shipped studies, search spaces, models and data sets, each usable by its name."""
    from advlora.config import read_yaml
    from advlora.data import embedded_data
    from advlora.models import embedded_models
    from advlora_platform.study.library import shipped

    shelves = {
        "ablations": {name: read_yaml(path).get("description", "") for name, path in shipped("ablation").items()},
        "search_spaces": {name: read_yaml(path).get("description", "") for name, path in shipped("sweep").items()},
        "models": dict.fromkeys(embedded_models(), "embedded, pretrained"),
        "data": dict.fromkeys(embedded_data(), "embedded"),
    }
    if as_json:
        print_json(shelves)
        return
    for shelf, entries in shelves.items():
        output.print(shelf.replace("_", " "), style="bold")
        for name, description in entries.items():
            output.print(f"  {name:<14} {description}")
