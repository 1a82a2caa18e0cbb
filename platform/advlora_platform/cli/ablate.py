"""`advlora ablate`: run an ablation study."""

from __future__ import annotations

from pathlib import Path

import click

from advlora_platform.cli.options import study_arguments
from advlora_platform.cli.running import run_study


@click.command(
    "ablate",
    epilog="Example: advlora ablate quickstart --set adapter.rank=4 --set seeds=[0,1,2,3,4] --out runs/rank4",
)
@study_arguments
def command(study: str, overrides: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Run an ablation: every arm with every seed, then effects with intervals.

    The same command after an interruption continues; what is done is not run again.
    """
    run_study(study, "ablation", overrides, out, as_json)
