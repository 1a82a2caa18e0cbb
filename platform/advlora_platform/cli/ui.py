"""`advlora ui`: the MLflow UI on the studies of this folder."""

from __future__ import annotations

import subprocess
import sys

import click

from advlora_platform.cli.console import messages


@click.command("ui", epilog="Example: advlora ui runs/quickstart --port 5001")
@click.argument("study", metavar="[STUDY|FOLDER]", required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
def command(study: str | None, host: str, port: int) -> None:
    """Open MLflow on the store that studies of this folder log to (MLFLOW_TRACKING_URI, else ./mlflow.db)."""
    from advlora_platform.cli.options import study_folder
    from advlora_platform.study.folder import StudyFolder, read_json
    from advlora_platform.tracking import tracking_uri, ui_command

    uri = tracking_uri()
    if study is not None:
        identity = read_json(StudyFolder(study_folder(study)).identity) or {}
        uri = identity.get("tracking_uri", uri)
    if uri.startswith(("http://", "https://")):
        messages.print(f"the studies are on a tracking server already: {uri}")
        return
    messages.print(f"MLflow UI on http://{host}:{port} (stop with Ctrl-C); it takes some seconds to start")
    sys.exit(subprocess.run(ui_command(uri, host, port), check=False).returncode)
