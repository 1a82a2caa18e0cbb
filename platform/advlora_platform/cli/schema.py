"""`advlora schema`: the JSON Schema of studies."""

from __future__ import annotations

import click

from advlora_platform.cli.console import print_json


@click.command("schema", epilog="Example: advlora schema > study.schema.json")
def command() -> None:
    """Print the JSON Schema of a study's file.

    Editors with a YAML language server complete and check keys by it where a file begins with the line
    `# yaml-language-server: $schema=study.schema.json`.
    """
    from advlora_platform.study.json_schema import study_schema

    print_json(study_schema())
