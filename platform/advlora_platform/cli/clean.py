"""`advlora clean`: remove the files of a study that nothing needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from advlora_platform.cli.console import output, print_json
from advlora_platform.cli.options import json_option, study_folder

if TYPE_CHECKING:
    from advlora_platform.study.keeping import Keep


@click.command("clean", epilog="Example: advlora clean quickstart --keep best --dry-run")
@click.argument("study", metavar="STUDY|FOLDER")
@click.option(
    "--keep",
    type=click.Choice(["best", "last", "all"]),
    help="Which checkpoints of finished trials stay.  [default: what the study says]",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@json_option
def command(study: str, keep: Keep | None, dry_run: bool, as_json: bool) -> None:
    """Remove what is needed neither to continue a study nor to report it: spare checkpoints, files of Ray, drafts.

    Records, outcomes, reports and checkpoints to go on from stay. Refused while a driver works on the study.
    """
    from advlora_platform.cleaning import clean

    found = clean(study_folder(study), keep, dry_run=dry_run)
    total = sum(clutter.size for clutter in found)
    if as_json:
        sorts = {each.what: {"paths": list(map(str, each.paths)), "bytes": each.size} for each in found}
        print_json({"removed": not dry_run, "bytes": total, "sorts": sorts})
        return
    for each in found:
        output.print(f"{each.size:>15,} bytes  {each.what} ({len(each.paths)})")
    output.print(f"{total:>15,} bytes  {'would be removed' if dry_run else 'removed'}")
