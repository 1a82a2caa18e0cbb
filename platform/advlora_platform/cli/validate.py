"""`advlora validate`: check a study without running it."""

from __future__ import annotations

import click

from advlora_platform.cli.console import output, print_json
from advlora_platform.cli.options import json_option, set_option


@click.command("validate", epilog="Example: advlora validate my_study.yaml --set adapter.rank=64")
@click.argument("study", metavar="NAME|FILE.yaml")
@set_option
@json_option
def command(study: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check every key and value of a study, and that its model, data and adapter sizes fit together."""
    from advlora_platform.checking import check_study
    from advlora_platform.study.library import load_any

    loaded = load_any(study, overrides)
    check_study(loaded)
    if as_json:
        print_json({"valid": True, "name": loaded.name, "kind": loaded.kind})
    else:
        output.print(f"{loaded.kind} '{loaded.name}' is valid")
