"""`advlora ui`: the MLflow UI on the studies of this folder."""

from __future__ import annotations

import os
import socket

import click

from advlora_platform.cli.console import messages


@click.command("ui", epilog="Example: advlora ui runs/quickstart --port 5001")
@click.argument("study", metavar="[STUDY|FOLDER]", required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
def command(study: str | None, host: str, port: int) -> None:
    """Open MLflow on the store of a study, else on the one that studies of this folder log to.

    The latter is MLFLOW_TRACKING_URI, else ./mlflow.db.
    """
    from advlora_platform.tracking import on_server, public_uri, ui_command

    uri, page = _store(study)
    if on_server(uri):
        messages.print(f"the studies are on a tracking server already: {public_uri(uri)}{page}")
        return
    _check_free(host, port)
    messages.print(f"MLflow UI, in some seconds (stop with Ctrl-C): http://{host}:{port}{page}")
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # processes that only LLM features use
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    command_line = ui_command(uri, host, port)
    os.execv(command_line[0], command_line)  # noqa: S606  (a signal must reach the server, not a parent of it)


def _store(study: str | None) -> tuple[str, str]:
    """Returns the store, and the page of the study in its UI.

    Raises:
        UserError: If the store is a file that does not exist.
    """
    from advlora.errors import UserError
    from advlora_platform.cli.options import study_folder
    from advlora_platform.study.folder import StudyFolder, read_json
    from advlora_platform.tracking import database_file, public_uri, tracking_uri

    uri, page = tracking_uri(), ""
    tracked = read_json(StudyFolder(study_folder(study)).tracking) if study is not None else None
    if tracked is not None:
        page = f"/#/experiments/{tracked['experiment_id']}/runs?workflowType=machine_learning"
        if tracked["uri"] != public_uri(uri):  # which may hold the password that the folder does not
            uri = tracked["uri"]
    file = database_file(uri)
    if file is not None and not file.exists():
        raise UserError(f"no MLflow store {file}; run a study first, for example: advlora ablate quickstart")
    return uri, page


def _check_free(host: str, port: int) -> None:
    from advlora.errors import UserError

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port") from None
