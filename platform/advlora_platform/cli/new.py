"""`advlora new`: a commented study to start from."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from advlora_platform.cli.console import output


@click.command("new", epilog="Example: advlora new ablation my_study.yaml")
@click.argument("kind", type=click.Choice(["ablation", "sweep"]))
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="[FILE.yaml]", required=False)
def command(kind: str, file: Path | None) -> None:
    """Write a commented file of a small study on the embedded data, to be changed; it runs as it is."""
    from advlora.errors import UserError

    target = file or Path(f"my_{kind}.yaml")
    if target.suffix not in {".yaml", ".yml"}:
        raise UserError(f"the file '{target}' must end in .yaml")
    text = (resources.files("advlora_platform.study") / "templates" / f"{kind}.yaml").read_text()
    try:
        with target.open("x") as new:
            new.write(text.replace("name: NAME", f"name: {target.stem}"))
    except FileExistsError:
        raise UserError(f"'{target}' exists already; choose another name") from None
    verb = {"ablation": "ablate", "sweep": "sweep"}[kind]
    output.print(f"{target}: change it, then: advlora plan {target}; advlora {verb} {target}")
