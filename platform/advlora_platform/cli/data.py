"""`advlora data check`: say what is wrong with a data set in a folder."""

from __future__ import annotations

import click

from advlora_platform.cli.console import output, print_json
from advlora_platform.cli.options import json_option


@click.group("data")
def command() -> None:
    """Work with data sets."""


@command.command("check", epilog="Example: advlora data check ~/flickr30k")
@click.argument("path", metavar="NAME|FOLDER")
@json_option
def check(path: str, as_json: bool) -> None:
    """Check what describes a data set, and every local file of it.

    Knows dataset.json with WebDataset shards, Karpathy's JSON of Flickr30k and MSCOCO, image folders with prompts.txt,
    and MSR-VTT.
    """
    from advlora.config import DataConfig
    from advlora.data import check_data, equal_captions, load_manifest
    from advlora.errors import DataError

    config = DataConfig(name=path)
    if problems := check_data(config):
        raise DataError(problems)
    manifest = load_manifest(config)
    counts = {name: split.samples for name, split in manifest.splits.items()}
    equal = equal_captions(config)
    if as_json:
        found = {"valid": True, "name": manifest.name, "task": manifest.task, "samples": counts}
        print_json(found | ({"equal_captions": equal} if equal else {}))
        return
    output.print(f"data set '{manifest.name}' is valid: {manifest.task}, {_listed(counts)}")
    if any(equal.values()):
        output.print(f"captions that another image has too: {_listed(equal)}; each is right for all that have it")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
