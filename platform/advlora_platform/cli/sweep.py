"""`advlora sweep`: search a space with Optuna."""

from __future__ import annotations

from pathlib import Path

import click

from advlora_platform.cli.options import allow_failures_option, study_arguments, wait_option
from advlora_platform.cli.running import run_study


@click.command("sweep", epilog="Example: advlora sweep quickstart --set search.trials=10 --set search.sampler=gp")
@study_arguments
@wait_option
@allow_failures_option
def command(
    study: str, overrides: tuple[str, ...], out: Path | None, as_json: bool, wait: bool, allow_failures: bool
) -> int:
    """Search a space: known-good points first, then Optuna, weak trials stopped early by ASHA.

    The same command after an interruption continues; finished trials are kept and their results are used.

    Exit codes: 0 complete, 1 incomplete (trials failed or are missing), 2 wrong input, 130 interrupted, 143 terminated.
    """
    return run_study(study, "sweep", overrides, out, as_json, wait=wait, allow_failures=allow_failures)
