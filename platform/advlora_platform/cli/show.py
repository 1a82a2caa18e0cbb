"""`advlora show`: the composed trial of a study."""

from __future__ import annotations

import click

from advlora_platform.cli.console import output, print_json
from advlora_platform.cli.options import json_option, set_option


@click.command("show", epilog="Example: advlora show quickstart --arm AdvLoRA > trial.yaml")
@click.argument("study", metavar="NAME|FILE.yaml")
@click.option("--arm", help="An arm of an ablation.  [default: the base]")
@set_option
@json_option
def command(study: str, arm: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print a trial with every key that it has, defaults included, and its evaluation.

    It is what `advlora train` runs.
    """
    from advlora.config import dump_yaml
    from advlora_platform.study.library import load_any

    loaded = load_any(study, overrides)
    values = _values(arm, loaded.arm_values)
    content = {
        "name": loaded.name,
        "trial": loaded.trial_with(values).model_dump(mode="json"),
        "protocol": loaded.reported_protocol.model_dump(mode="json"),
    }
    if as_json:
        print_json({"arm": arm, "arms": list(loaded.arm_values), **content})
        return
    of = f"arm '{arm}'" if arm is not None else "the base"
    names = f"; arms: {', '.join(loaded.arm_values)}" if arm is None and loaded.arm_values else ""
    output.out(f"# {of} of {loaded.kind} '{loaded.name}'{names}\n{dump_yaml(content)}", end="")


def _values(arm: str | None, arms: dict[str, dict[str, object]]) -> dict[str, object]:
    from advlora.errors import ConfigError, did_you_mean

    if arm is None:
        return {}
    if arm not in arms:
        known = did_you_mean(arm, arms) or (f"; arms: {', '.join(arms)}" if arms else "; it has none")
        raise ConfigError(f"the study has no arm '{arm}'{known}")
    return arms[arm]
