"""`advlora sweep`: search a space with Optuna."""

from __future__ import annotations

from pathlib import Path

import click

from advlora_platform.cli.options import study_arguments
from advlora_platform.cli.running import run_study


@click.command("sweep", epilog="Example: advlora sweep quickstart --set search.trials=10 --set search.sampler=gp")
@study_arguments
def command(study: str, overrides: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Search a space: known-good points first, then Optuna, weak trials stopped early by ASHA.

    The same command after an interruption continues; finished trials are kept and their results are used.
    """
    run_study(study, "sweep", overrides, out, as_json)
