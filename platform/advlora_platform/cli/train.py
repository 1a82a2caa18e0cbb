"""`advlora train`: train one configuration and write the adapter and the merged model."""

from __future__ import annotations

from pathlib import Path

import click

from advlora_platform.cli.console import output, print_json
from advlora_platform.cli.options import json_option, out_option, set_option, study_home, wait_option


@click.command("train", epilog="Example: advlora train best.yaml --out runs/best")
@click.argument("file", metavar="FILE.yaml", type=click.Path(path_type=Path))
@set_option
@out_option
@json_option
@wait_option
def command(file: Path, overrides: tuple[str, ...], out: Path | None, as_json: bool, wait: bool) -> None:
    """Train the `trial` of a file (such as best.yaml) on Ray and write the verified exports.

    Where the file says which validation metrics its study measured, they are compared with the new ones.
    """
    from advlora_platform.cli.progress import ProgressDisplay
    from advlora_platform.training import read_training, train, training_study

    training = read_training(file, overrides)
    folder = study_home(training_study(training), out)
    with ProgressDisplay(training.name) as progress:
        result = train(training, folder, [progress], wait=wait)
    if as_json:
        print_json(result.to_json())
        return
    for name, value in sorted(result.metrics.items()):
        output.print(f"  {name:<28} {value:.6g}")
    output.print(result.verdict)
    for label, path in result.exports.items():
        output.print(f"{label:<12} {path}")
