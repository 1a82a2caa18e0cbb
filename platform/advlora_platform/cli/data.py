"""`advlora data check`: say what is wrong with a data set in a folder, and what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from advlora_platform.cli.console import output, print_json, status
from advlora_platform.cli.options import json_option

if TYPE_CHECKING:
    from advlora.data import Summary
    from advlora.data.summary import SplitSummary

LISTED = 20
"""Sets with more classes show the largest and the smallest alone."""


@click.group("data")
def command() -> None:
    """Work with data sets."""


@command.command("check", epilog="Example: advlora data check ~/flickr30k")
@click.argument("path", metavar="NAME|FOLDER")
@click.option("--classes", metavar="NAME", help="Class names of open_clip for the set: openai-imagenet.")
@click.option("--templates", metavar="NAME", help="Captions of open_clip for its classes: openai or simple.")
@json_option
def check(path: str, classes: str | None, templates: str | None, as_json: bool) -> None:
    """Open every local file of a data set, and say what is wrong with it and what it holds.

    Knows dataset.json with WebDataset shards, CLIP_benchmark's archives, Karpathy's JSON of Flickr30k and MSCOCO, image
    folders with prompts.txt, what torchvision makes (flowers-102 and the like), and MSR-VTT.
    """
    from advlora.config import DataConfig, parse
    from advlora.data import check_data, summarise
    from advlora.errors import DataError

    config = parse(DataConfig, {"name": path, "classes": classes, "templates": templates}, "data.")
    with status("checking the data"):
        if problems := check_data(config, reopen=True):
            raise DataError(problems)
        summary = summarise(config)
    if as_json:
        print_json(_plain(summary))
        return
    for line in _text(summary):
        output.print(line)


def _plain(summary: Summary) -> dict[str, object]:
    splits = summary.splits
    known: dict[str, dict[str, object]] = {
        "samples": {name: split.samples for name, split in splits.items()},
        "classes": {name: split.counts for name, split in splits.items() if split.counts},
        "in_training": {name: split.in_training for name, split in splits.items() if name != "train"},
        "repeated": {name: split.repeated for name, split in splits.items()},
    }
    if summary.task == "retrieval":
        del known["classes"]
        known["equal_captions"] = {name: split.equal_captions for name, split in splits.items()}
    head = {"valid": True, "name": summary.name, "task": summary.task, "missing": _missing(summary)}
    return {**head, **known, "left_out": list(summary.left_out), "equal_names": list(summary.equal_names)}


def _missing(summary: Summary) -> list[str]:
    return [name for name, split in summary.splits.items() if not split.samples]


def _text(summary: Summary) -> Iterator[str]:
    yield f"data set '{summary.name}' is valid: {summary.task}"
    table = list(_classes(summary))
    for name, split in summary.splits.items():
        yield f"  {name:<6} {_split(split, spread=not table)}"
    yield from table
    if missing := _missing(summary):
        there = [name for name in ("val", "test") if name not in missing]
        use = f" ('advlora evaluate' can measure {' and '.join(there)})" if there else ""
        yield f"no study can use it: it has no {' and no '.join(missing)}{use}"
    for name, split in summary.splits.items():
        if split.in_training:
            yield f"equal files: {split.in_training:,} of {split.read:,} images of {name} are training images too"
        if split.repeated:
            yield f"equal files: {split.repeated:,} of {split.read:,} images of {name} are there before"
    if any(split.equal_captions for split in summary.splits.values()):
        counts = ", ".join(f"{split.equal_captions} {name}" for name, split in summary.splits.items())
        yield f"captions that another image has too: {counts}; each is right for all that have it"
    if summary.equal_names:
        names = ", ".join(f"'{name}'" for name in summary.equal_names)
        yield f"equal names: {names}, of several classes each; a text tower takes all their images for one of them"
    if summary.left_out:
        yield f"left out: {len(summary.left_out):,} that are no images, such as '{summary.left_out[0]}'"


def _split(split: SplitSummary, spread: bool) -> str:
    if not split.samples:
        return "none"
    text = f"{split.samples:,} samples"
    if split.read < split.samples:
        return f"{text}, {split.samples - split.read:,} of them in remote shards, not read"
    if not split.counts:
        return text
    text += f", {split.classes_seen:,} of {len(split.counts):,} classes"
    return f"{text}, {_spread(split.counts)}" if spread else text


def _spread(counts: dict[str, int]) -> str:
    least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[least] == counts[most]:
        return f"{counts[most]:,} of each"
    return f"{counts[least]:,} ({least}) to {counts[most]:,} ({most})"


def _classes(summary: Summary) -> Iterator[str]:
    """Yields the classes with their samples in every split, where they are few."""
    counts = {name: split.counts for name, split in summary.splits.items() if split.counts and split.read}
    if not counts or all(len(set(own.values())) == 1 for own in counts.values()):
        return
    names = list(next(iter(counts.values())))
    if len(names) > LISTED:
        return
    width = max(map(len, names))
    yield f"  {'':<{width}} " + "".join(f"{name:>8}" for name in counts)
    for each in names:
        yield f"  {each:<{width}} " + "".join(f"{own[each]:>8,}" for own in counts.values())
