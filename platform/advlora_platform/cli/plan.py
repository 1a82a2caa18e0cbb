"""`advlora plan`: say what a study would run, and how long it takes."""

from __future__ import annotations

from pathlib import Path

import click

from advlora_platform.cli.console import output, phase, print_json
from advlora_platform.cli.options import study_arguments, study_home


@click.command("plan", epilog="Example: advlora plan components --set seeds=[0,1]")
@study_arguments
def command(study: str, overrides: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Print arms, trials, what is done already, resources, and an estimate of the time from a short probe.

    Nothing is trained; the probe runs the vision tower for about a second.
    """
    from advlora_platform.study.library import load_any

    loaded = load_any(study, overrides)
    with phase("checking the study"):
        from advlora_platform.checking import check_study

        check_study(loaded)
    with phase("counting trials and probing the model"):
        from advlora_platform.planning import plan_study

        plan = plan_study(loaded, study_home(loaded, out))
    if as_json:
        print_json(plan.to_json())
    else:
        output.print(plan.to_text(), markup=True)
