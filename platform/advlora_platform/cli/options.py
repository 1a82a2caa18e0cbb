"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from advlora_platform.cli.console import messages

if TYPE_CHECKING:
    from advlora_platform.study.spec import Study

Function = TypeVar("Function", bound=Callable[..., Any])

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of the trial (adapter.rank=16) or of the study (seeds=[0,1]); may be repeated.",
)
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Study folder.  [default: runs/STUDY, or one beside it]",
)


def _note_json(context: click.Context, parameter: click.Parameter, wanted: bool) -> bool:
    """Lets `main` know, which prints errors when the verb's context is gone."""
    context.ensure_object(dict)["as_json"] = wanted
    return wanted


wait_option = click.option(
    "--wait", is_flag=True, help="Wait until a process that drives the study already ends.  [default: refuse]"
)
allow_failures_option = click.option(
    "--allow-failures", is_flag=True, help="End with code 0 even if trials have no result."
)
json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,  # before any other option can be refused
    callback=_note_json,
    help="Print one machine-readable object on stdout.",
)
arm_option = click.option("--arm", metavar="NAME", help="An arm of the study, or a finalist, in place of the best.")
where_option = click.option(
    "--where",
    multiple=True,
    metavar="CONSTRAINT",
    help="What it must keep, such as 'params/trainable_fraction <= 0.1' or 'clean >= 80 %'; may be repeated.",
)

address_option = click.option(
    "--address",
    required=True,
    envvar="RAY_API_SERVER_ADDRESS",
    show_envvar=True,
    metavar="http://HEAD:8265",
    help="Address of the cluster's dashboard.",
)


def study_arguments(function: Function) -> Function:
    """Adds `NAME|FILE.yaml`, `--set`, `--out` and `--json` to a verb."""
    for decorate in (json_option, out_option, set_option, click.argument("study", metavar="NAME|FILE.yaml")):
        function = decorate(function)
    return function


def study_home(study: Study, out: Path | None) -> Path:
    """Returns the folder to run a study in: the chosen one, else its own; says why that is not `runs/STUDY`."""
    from advlora_platform.study.opening import home

    if out is not None:
        return out
    folder, why = home(study)
    if why:
        messages.print(f"note: {why}")
    return folder


def study_folder(reference: str) -> Path:
    """Finds the folder of a study that has run, by path or by name below `runs/`.

    Raises:
        ConfigError: If there is no such folder.
    """
    from advlora.errors import ConfigError, did_you_mean
    from advlora_platform.study.folder import StudyFolder

    for candidate in (Path(reference), Path("runs") / reference):
        if StudyFolder(candidate).study.is_file():
            return candidate
    known = [path.parent.name for path in Path("runs").glob("*/study.yaml")]
    raise ConfigError(
        f"no study folder '{reference}' (looked for {reference}/study.yaml and runs/{reference}/study.yaml)"
        f"{did_you_mean(reference, known) or ('; known: ' + ', '.join(known) if known else '')}"
    )
