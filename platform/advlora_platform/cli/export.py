"""`advlora export`: a configuration of a study, its trained model, or a pack by which others get its numbers again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from advlora_platform.cli.console import output, print_json, status
from advlora_platform.cli.options import arm_option, json_option, study_folder, where_option

if TYPE_CHECKING:
    from advlora_platform.choosing import Choice
    from advlora_platform.study import StudyFolder


@click.command("export", epilog="Example: advlora export quickstart -o best.yaml")
@click.argument("study", metavar="STUDY|FOLDER")
@click.option("-o", "--output", "target", type=click.Path(path_type=Path, dir_okay=False), default=Path("best.yaml"))
@arm_option
@where_option
@click.option(
    "--model", type=click.Path(path_type=Path, file_okay=False), help="Write the trained model and its card instead."
)
@click.option("--pack", type=click.Path(path_type=Path, file_okay=False), help="Write a reproduction pack instead.")
@json_option
def command(
    study: str,
    target: Path,
    arm: str | None,
    where: tuple[str, ...],
    model: Path | None,
    pack: Path | None,
    as_json: bool,
) -> None:
    """Write the best configuration, selected on val by the final robust accuracy, with its provenance.

    `advlora train` reproduces its validation metrics. With --model, write the model that the study trained by it:
    adapters, merged weights and a model card. With --pack, write a folder that holds the study, every trial with its
    metrics, outcomes and device, the code and the packages; `advlora verify` runs it again.
    """
    if pack is not None and (where or arm or model):
        option = "--where" if where else "--arm" if arm else "--model"
        raise click.UsageError(
            f"{option} chooses a configuration, and a pack holds all of them; leave one of the two out"
        )
    if arm is not None and where:
        raise click.UsageError("--arm names a configuration, and --where chooses one; leave one of the two out")
    if pack is not None:
        _pack(study, pack, as_json)
        return
    from advlora_platform.choosing import choose
    from advlora_platform.study import reopen

    opened, folder = reopen(study_folder(study))
    choice = choose(opened, folder, where, arm)
    if model is not None:
        _model(choice, folder, model, as_json)
    else:
        _configuration(choice, target, as_json)


def _configuration(choice: Choice, target: Path, as_json: bool) -> None:
    from advlora_platform.export import read_best
    from advlora_platform.study.folder import write_text

    write_text(target, choice.text(str(target)))
    if as_json:
        print_json(read_best(target).model_dump(mode="json"))
        return
    output.print(f"{target}: {choice.best.reason}")
    output.print(f"Train it     advlora train {target}")


def _model(choice: Choice, folder: StudyFolder, target: Path, as_json: bool) -> None:
    from advlora_platform.sharing import write_model

    with status("writing and checking the model"):
        paths = write_model(choice, folder, target)
    if as_json:
        exports = {label: str(path) for label, path in paths.items()}
        print_json({"model": str(target), "trial": choice.best.trial_id, "exports": exports})
        return
    output.print(f"{target}: {choice.best.reason}")
    for label, path in paths.items():
        output.print(f"{label:<21} {path}")
    output.print(f"{'model card':<21} {target / 'README.md'}")


def _pack(study: str, target: Path, as_json: bool) -> None:
    from advlora_platform.packing import write_pack
    from advlora_platform.study import reopen

    sealed = write_pack(*reopen(study_folder(study)), target)
    if as_json:
        print_json({"pack": str(target), "digest": sealed.digest, **sealed.content})
        return
    output.print(f"{target}: {len(sealed.content['files'])} files, digest {sealed.digest}")
    output.print(f"Verify it    advlora verify {target}")
