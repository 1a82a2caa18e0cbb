"""`advlora export`: write the best configuration of a study, or a pack from which others get its numbers again."""

from __future__ import annotations

from pathlib import Path

import click

from advlora_platform.cli.console import output, print_json
from advlora_platform.cli.options import json_option, study_folder


@click.command("export", epilog="Example: advlora export quickstart -o best.yaml")
@click.argument("study", metavar="STUDY|FOLDER")
@click.option("-o", "--output", "target", type=click.Path(path_type=Path, dir_okay=False), default=Path("best.yaml"))
@click.option(
    "--where",
    multiple=True,
    metavar="CONSTRAINT",
    help="What it must keep, such as 'params/trainable_fraction <= 0.1' or 'clean >= 80 %'; may be repeated.",
)
@click.option("--pack", type=click.Path(path_type=Path, file_okay=False), help="Write a reproduction pack instead.")
@json_option
def command(study: str, target: Path, where: tuple[str, ...], pack: Path | None, as_json: bool) -> None:
    """Write the best configuration, selected on val by the final robust accuracy, with its provenance.

    `advlora train` reproduces its validation metrics. With --pack, write a folder that holds the study, every trial
    with its metrics, outcomes and device, the code and the packages; `advlora verify` runs it again.
    """
    if pack is not None and where:
        raise click.UsageError(
            "--where chooses a configuration, and a pack holds all of them; leave one of the two out"
        )
    if pack is not None:
        _pack(study, pack, as_json)
        return
    from advlora_platform.choosing import choose
    from advlora_platform.export import read_best
    from advlora_platform.study import reopen
    from advlora_platform.study.folder import write_text

    text, reason = choose(*reopen(study_folder(study)), where, str(target))
    write_text(target, text)
    if as_json:
        print_json(read_best(target).model_dump(mode="json"))
        return
    output.print(f"{target}: {reason}")
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
