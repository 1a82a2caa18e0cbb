"""`advlora ablate`: run an ablation study."""

from __future__ import annotations

from pathlib import Path

import click

from advlora_platform.cli.options import allow_failures_option, study_arguments, wait_option
from advlora_platform.cli.running import run_study


@click.command(
    "ablate",
    epilog="Example: advlora ablate quickstart --set adapter.rank=4 --set seeds=[0,1,2,3,4] --out runs/rank4",
)
@study_arguments
@wait_option
@allow_failures_option
def command(
    study: str, overrides: tuple[str, ...], out: Path | None, as_json: bool, wait: bool, allow_failures: bool
) -> int:
    """Run an ablation: every arm with every seed, then effects with intervals.

    The same command after an interruption continues; what is done is not run again.

    Exit codes: 0 complete, 1 incomplete (trials failed or are missing), 2 wrong input, 130 interrupted, 143 terminated.
    """
    return run_study(study, "ablation", overrides, out, as_json, wait=wait, allow_failures=allow_failures)
