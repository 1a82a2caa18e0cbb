"""`advlora evaluate`: measure a trained or pretrained model under a protocol."""

from __future__ import annotations

from pathlib import Path

import click

from advlora_platform.cli.console import output, print_json
from advlora_platform.cli.options import json_option


@click.command("evaluate", epilog="Example: advlora evaluate runs/best/model --protocol quickstart --split test")
@click.argument("model", metavar="FOLDER|NAME")
@click.option("--data", default="fashion-mnist", show_default=True, help="Embedded name or folder of a data set.")
@click.option("--split", default="test", show_default=True, type=click.Choice(["val", "test"]))
@click.option(
    "--protocol",
    metavar="NAME|FILE.yaml",
    default="quickstart",
    show_default=True,
    help="A study, whose protocol is used, or a YAML file with a protocol.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Also write the record to this file.")
@json_option
def command(model: str, data: str, split: str, protocol: str, out: Path | None, as_json: bool) -> None:
    """Measure clean and robust accuracy of a model.

    MODEL is the `model/` folder that `advlora train` wrote, a `merged/` or any open_clip folder, an embedded
    model's name, or an open_clip name with its pretrained tag (`ViT-B-32:openai`).
    """
    from advlora_platform.evaluation import evaluate_model
    from advlora_platform.study.folder import write_json

    record = evaluate_model(model, data, split, protocol)
    if out is not None:
        write_json(out, record)
    if as_json:
        print_json(record)
        return
    output.print(f"[bold]{model}[/] on {data}/{split}, {record['protocol_text']}")
    for name, value in record["metrics"].items():
        output.print(f"  {name:<28} {value:.1%}")
