"""`advlora lowrank`: is adversarial adaptation low-rank, and does training at a rank find it?"""

from __future__ import annotations

from pathlib import Path

import click
from rich.markup import escape

from advlora_platform.cli.console import output, print_json, status
from advlora_platform.cli.options import json_option, out_option, set_option, study_folder, study_home


@click.command("lowrank", epilog="Example: advlora lowrank low_rank")
@click.argument("study", metavar="[STUDY|FOLDER]", required=False)
@click.option("--sweep", metavar="STUDY|FOLDER", help="A study with trained adapters.  [default: the same]")
@click.option("--ranks", default="0,1,2,4,8,16,32,64", show_default=True, help="Ranks to which changes are truncated.")
@click.option("--samples", type=click.IntRange(min=1), help="At most this many test images per truncated model.")
@set_option
@out_option
@json_option
def command(
    study: str | None,
    sweep: str | None,
    ranks: str,
    samples: int | None,
    overrides: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Take the weights of full fine-tunings apart and compare them with trained adapters.

    STUDY has run, with adversarial and clean full fine-tuning of one model among its arms, such as `low_rank`. Without
    it these two arms are trained first, as the study `lowrank`; --set and --out belong to that.
    """
    from advlora.errors import ConfigError
    from advlora_platform.lowrank import findings, gather, log_evidence, write_evidence

    if study is not None and (overrides or out is not None):
        raise ConfigError("--set and --out belong to the training of a new study; leave them out beside a finished one")
    cut = _ranks(ranks)
    folder = _trained(overrides, out) if study is None else study_folder(study)
    with status("reading the study") as shown:
        evidence = gather(
            folder,
            None if sweep is None else study_folder(sweep),
            ranks=cut,
            samples=samples,
            progress=lambda text: shown.update(escape(text)),
        )
    files = write_evidence(evidence, folder)
    log_evidence(evidence, folder, files)
    if as_json:
        print_json(evidence.to_json())
        return
    for sentence in findings(evidence):
        output.print(sentence)
    output.print(f"\nReport       {folder / 'lowrank' / 'report.html'}  (text: {folder / 'lowrank' / 'report.md'})")


def _trained(overrides: tuple[str, ...], out: Path | None) -> Path:
    from advlora_platform.checking import check_study
    from advlora_platform.cli.progress import ProgressDisplay
    from advlora_platform.launch import launch
    from advlora_platform.lowrank import two_arms

    study = two_arms(overrides)
    check_study(study)
    folder = study_home(study, out)
    with ProgressDisplay(study.name) as progress:
        launch(study, folder, [progress])
    return folder


def _ranks(text: str) -> list[int]:
    from advlora.errors import ConfigError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--ranks '{text}' must be whole numbers from 0, such as 0,1,2,4,8")
    return [int(part) for part in parts]
