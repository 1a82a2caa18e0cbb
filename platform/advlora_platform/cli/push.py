"""`advlora push`: upload a trained model of a study to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from advlora_platform.cli.console import output, print_json, status
from advlora_platform.cli.options import arm_option, json_option, study_folder, where_option


@click.command("push", epilog="Example: advlora push quickstart hf://me/robust-clip --dry-run")
@click.argument("study", metavar="STUDY|FOLDER")
@click.argument("address", metavar="hf://USER/NAME")
@arm_option
@where_option
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--dry-run", is_flag=True, help="List the files and print the model card; upload nothing.")
@json_option
def command(
    study: str, address: str, arm: str | None, where: tuple[str, ...], private: bool, dry_run: bool, as_json: bool
) -> None:
    """Write the model of the best configuration, or of an arm, with its card, and upload it.

    The token is that of `hf auth login`, or of the environment variable HF_TOKEN.
    """
    from advlora_platform.choosing import choose
    from advlora_platform.sharing import push, repository, write_model
    from advlora_platform.study import reopen

    name = repository(address)
    opened, folder = reopen(study_folder(study))
    with TemporaryDirectory() as draft, status("writing and checking the model"):
        model = Path(draft) / "model"
        write_model(choose(opened, folder, where, arm), folder, model)
        files = sorted(file.relative_to(model).as_posix() for file in model.rglob("*") if file.is_file())
        card = (model / "README.md").read_text()
        where_to = None if dry_run else push(model, name, private=private)
    if as_json:
        print_json({"repository": name, "files": files, "card": card, "commit": where_to})
    elif where_to is None:
        output.print("\n".join([f"would upload to {name}:", *(f"  {file}" for file in files), "", card]))
    else:
        output.print(f"{len(files)} files uploaded: {where_to}")
