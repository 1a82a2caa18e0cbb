"""`advlora evaluate`: measure a trained or pretrained model under a protocol."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import click

from advlora_platform.cli.console import output, print_json, status
from advlora_platform.cli.options import json_option
from advlora_platform.shelves import shipped_protocols

if TYPE_CHECKING:
    from advlora_platform.measure import Evaluation, EvaluationRecord


@click.command("evaluate", epilog="Example: advlora evaluate runs/best/model --protocol strong --split test")
@click.argument("model", metavar="MODEL")
@click.option("--data", default="fashion-mnist", show_default=True, help="Embedded name or folder of a data set.")
@click.option("--classes", metavar="NAME", help="Class names of open_clip for DATA: openai-imagenet.")
@click.option("--templates", metavar="NAME", help="Captions of open_clip for the classes of DATA: openai or simple.")
@click.option("--split", default="test", show_default=True, type=click.Choice(["val", "test"]))
@click.option(
    "--protocol",
    metavar="NAME|FILE.yaml",
    default="quickstart",
    show_default=True,
    help=f"A shipped protocol ({', '.join(shipped_protocols())}), a study, or a YAML file.",
)
@click.option(
    "--transfer",
    multiple=True,
    metavar="NAME|FOLDER",
    help="A further data set, or a suite (fare-13, tecoa-15), measured on test; may be repeated.",
)
@click.option("--root", metavar="FOLDER", help="Folder of the data sets of --transfer.  [default: this one]")
@click.option("--base", metavar="NAME|FOLDER", help="The pretrained model that MODEL was made of.")
@click.option(
    "--study",
    type=click.Path(path_type=Path, file_okay=False),
    help="Study folder of a run id.  [default: found in runs/]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of the record.  [default: records/MODEL-PROTOCOL-HASH.json]",
)
@click.option("--no-track", is_flag=True, help="Log nothing to MLflow.")
@json_option
def command(
    model: str,
    data: str,
    classes: str | None,
    templates: str | None,
    split: str,
    protocol: str,
    transfer: tuple[str, ...],
    root: str | None,
    base: str | None,
    study: Path | None,
    out: Path | None,
    no_track: bool,
    as_json: bool,
) -> None:
    """Measure clean and robust accuracy of a model, check the numbers, and write a record.

    MODEL is a model/ folder that `advlora train` wrote, a PEFT adapter, a merged or any other checkpoint folder of
    open_clip or transformers; the MLflow run id of a finished trial; an embedded model; ARCHITECTURE:TAG or
    ARCHITECTURE:FILE of open_clip; hf-hub:NAME; transformers:NAME; or a file that holds a vision tower alone, with
    --base.

    The record holds the outcome of every example, so that `advlora compare` can set two records against each other.
    With --json it is printed without them.
    """
    from advlora.config import DataConfig, TransferConfig, parse
    from advlora_platform.measure import Evaluation

    asked = parse(DataConfig, {"name": data, "classes": classes, "templates": templates})
    if root is not None and not transfer:
        raise click.UsageError("--root has no effect without --transfer")
    further = parse(TransferConfig, {"root": root or ".", "sets": transfer}) if transfer else None
    with status("loading the model, checking the data"):
        evaluation = Evaluation.prepare(model, asked, split, protocol, base, study, further)
    record, file = _measure(evaluation, out, track=not no_track)
    if as_json:
        print_json(record.brief())
        return
    from advlora_platform.report.measurements import record_text

    output.print(record_text(record), markup=True)
    output.print(f"\nRecord       {file}  ({record.seconds:.1f} s)")


def _measure(evaluation: Evaluation, out: Path | None, track: bool) -> tuple[EvaluationRecord, Path]:
    """Measures and writes; the store and the folder are tried before anything is computed."""
    from advlora.errors import UserError
    from advlora_platform.measure import record_file, write_record
    from advlora_platform.measure.record import FOLDER
    from advlora_platform.measure.tracked import tracked
    from advlora_platform.tracking import EvaluationLog

    log = EvaluationLog() if track else None
    folder = out.parent if out is not None else FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"the record cannot be written into folder '{folder}': {error.strerror}") from error
    with status(f"measuring {evaluation.subject.name}"):
        record = evaluation.measure()
    file = out or record_file(record)
    write_record(record, file)
    if log is not None:
        try:
            log.log(tracked(record), file)
        except UserError as error:
            raise UserError(f"the record is in {file}, but not in MLflow: {error}") from None
    return record, file
