"""`advlora verify`: run the trials of a pack again and say whether they come out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from advlora_platform.cli.console import output, print_json, text_width
from advlora_platform.cli.options import json_option, wait_option

if TYPE_CHECKING:
    from advlora_platform.verifying import Verification


@click.command("verify", epilog="Example: advlora verify components-pack --trials 5")
@click.argument("pack", metavar="PACK", type=click.Path(path_type=Path, file_okay=False))
@click.option("--trials", type=click.IntRange(0), help="Draw so many trials; 0 checks the files alone.  [default: all]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the draw.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="Points by which an accuracy may differ.",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the new trials; continued.")
@json_option
@wait_option
def command(
    pack: Path, trials: int | None, seed: int, tolerance: float, out: Path | None, as_json: bool, wait: bool
) -> int:
    """Check that no file of a pack was changed, and run its trials again: equal, within tolerance, or not, and why.

    Ends with code 0 if all come out, 1 if one does not, 2 if the pack was changed.
    """
    from advlora_platform.cli.progress import ProgressDisplay
    from advlora_platform.verifying import verify

    place = out or Path("runs") / f"verify-{pack.resolve().name}"
    with ProgressDisplay(f"verify {pack.name}") as progress:
        found = verify(pack, place, drawn=trials, seed=seed, tolerance=tolerance / 100, listeners=[progress], wait=wait)
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)
    return 0 if found.reproduced else 1


def _show(found: Verification) -> None:
    from advlora_platform.report.reproductions import reproductions_text

    output.print(f"Pack of '{found.study}', digest {found.digest}: no file was changed.")
    if found.trials:
        output.print(reproductions_text(found.trials, found.finished, text_width()), markup=True)
