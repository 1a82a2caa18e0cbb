"""`advlora export`: write the best configuration of a study, or a pack from which others get its numbers again."""

from __future__ import annotations

from pathlib import Path

import click

from advlora_platform.cli.console import output, print_json
from advlora_platform.cli.options import json_option, study_folder


@click.command("export", epilog="Example: advlora export quickstart -o best.yaml")
@click.argument("study", metavar="STUDY|FOLDER")
@click.option("-o", "--output", "target", type=click.Path(path_type=Path, dir_okay=False), default=Path("best.yaml"))
@click.option("--pack", type=click.Path(path_type=Path, file_okay=False), help="Write a reproduction pack instead.")
@json_option
def command(study: str, target: Path, pack: Path | None, as_json: bool) -> None:
    """Write the best configuration, selected on val by the final robust accuracy, with its provenance.

    `advlora train` reproduces its validation metrics. With --pack, write a folder that holds the study, every trial
    with its metrics, outcomes and device, the code and the packages; `advlora verify` runs it again.
    """
    if pack is not None:
        _pack(study, pack, as_json)
        return
    from advlora.errors import UserError
    from advlora_platform.export import read_best
    from advlora_platform.launch import conclude
    from advlora_platform.study import reopen
    from advlora_platform.study.folder import write_text

    loaded, folder = reopen(study_folder(study))
    summary = conclude(loaded, folder)
    if summary.best is None:
        raise UserError(f"study '{loaded.name}' has no finished trial yet, so there is nothing to export")
    write_text(target, folder.best.read_text().replace("advlora train best.yaml", f"advlora train {target}"))
    best = read_best(target)
    if as_json:
        print_json(best.model_dump(mode="json"))
        return
    output.print(f"{target}: {summary.best.reason}")
    output.print(f"Train it     advlora train {target}")


def _pack(study: str, target: Path, as_json: bool) -> None:
    from advlora_platform.packing import write_pack
    from advlora_platform.study import reopen

    sealed = write_pack(*reopen(study_folder(study)), target)
    if as_json:
        print_json({"pack": str(target), "digest": sealed.digest, **sealed.content})
        return
    output.print(f"{target}: {len(sealed.content['files'])} files, digest {sealed.digest}")
    output.print(f"Verify it    advlora verify {target}")
