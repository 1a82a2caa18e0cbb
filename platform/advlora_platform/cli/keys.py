"""`advlora keys`: every key that can be written into a study."""

from __future__ import annotations

import textwrap
from dataclasses import asdict

import click

from advlora_platform.cli.console import output, print_json, text_width
from advlora_platform.cli.options import json_option


@click.command("keys", epilog="Example: advlora keys adapter.init")
@click.argument("prefix", metavar="[PREFIX]", default="")
@click.option("--markdown", is_flag=True, help="Print the whole reference as Markdown.")
@json_option
def command(prefix: str, markdown: bool, as_json: bool) -> None:
    """List every key with what it may be, its default and what it is; with PREFIX, those that begin so.

    Keys of a trial are written as with --set; in the file of a study they stand below `base`.
    """
    from advlora.errors import ConfigError, did_you_mean
    from advlora_platform.study.reference import facts, matching, reference, to_markdown

    keys = reference()
    if markdown:
        output.out(to_markdown(keys), end="")
        return
    found = matching(keys, prefix)
    if not found:
        known = [key.path for group in keys.values() for key in group]
        raise ConfigError(f"no key begins with '{prefix}'{did_you_mean(prefix, known)}")
    if as_json:
        print_json({"keys": [asdict(key) for key in found]})
        return
    width = text_width()
    for key in found:
        output.print(key.path, style="bold")
        for text in (facts(key), key.sentence):
            lines = textwrap.wrap(text, width - 2, break_on_hyphens=False)
            output.print(textwrap.indent("\n".join(lines), "  "))
