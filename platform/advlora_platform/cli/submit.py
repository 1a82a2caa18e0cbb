"""`advlora submit`: run a study as a job of a cluster."""

from __future__ import annotations

import asyncio
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import click

from advlora_platform.cli.console import messages, output, print_json, status
from advlora_platform.cli.options import address_option, json_option, set_option

if TYPE_CHECKING:
    from advlora_platform.cluster.jobs import Cluster

INTERRUPTED = 130


@click.command(
    "submit", epilog="Example: advlora submit quickstart --address http://HEAD:8265 --out /mnt/runs/quickstart --follow"
)
@click.argument("study", metavar="NAME|FILE.yaml")
@address_option
@click.option(
    "--out",
    required=True,
    metavar="FOLDER",
    help="Study folder: an absolute path on storage that every node sees.",
)
@set_option
@click.option(
    "--env",
    "assignments",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="A variable of the job's environment; may be repeated. MLFLOW_TRACKING_URI goes along by itself.",
)
@click.option("--follow", is_flag=True, help="Show what the job prints, and end with its exit code.")
@json_option
def command(
    study: str,
    address: str,
    out: str,
    overrides: tuple[str, ...],
    assignments: tuple[str, ...],
    follow: bool,
    as_json: bool,
) -> int:
    """Send this code and a study to a cluster and start it there.

    The same command after an interruption continues the study. Where the cluster asks for a token, set
    RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH. No credential is sent: set those on the nodes.
    """
    from advlora_platform.cluster.environment import job_environment
    from advlora_platform.cluster.jobs import Cluster
    from advlora_platform.cluster.package import refuse_relative_paths
    from advlora_platform.study.library import load_any

    folder = _absolute(out)
    loaded, variables = load_any(study, overrides), job_environment(assignments)
    refuse_relative_paths(loaded)
    with status("sending code and study"):
        cluster = Cluster(address)
        job = cluster.submit(loaded, folder, variables)
    if as_json:
        print_json({"job": job, "study": loaded.name, "address": address, "out": str(folder)})
    else:
        output.print(f"Job          {job}\nStudy        {folder}")
        output.print(f"Look         advlora status {job} --address {address}")
        output.print(f"Stop         advlora stop {job} --address {address}")
    return followed(cluster, job) if follow else 0


def followed(cluster: Cluster, job: str) -> int:
    """Shows what a job prints until it ends, and returns its exit code; Ctrl-C leaves the job alone."""
    try:
        asyncio.run(_show(cluster, job))
    except KeyboardInterrupt:
        messages.print(f"\nthe job goes on: advlora status {job} --address {cluster.address}")
        return INTERRUPTED
    except RuntimeError as error:  # the connection broke
        messages.print(f"the log broke off ({error})")
    ended = cluster.result(job)
    messages.print(f"job {job}: {ended.status}{f' ({ended.message})' if ended.message else ''}")
    return ended.code


async def _show(cluster: Cluster, job: str) -> None:
    async for lines in cluster.log(job):
        messages.print(lines, end="")


def _absolute(out: str) -> PurePosixPath:
    from pathlib import Path

    from advlora.errors import ConfigError
    from advlora_platform.study.location import check_location

    remedy = "name an absolute path on storage that every node sees"
    check_location(Path(out), "--out", remedy)
    if not PurePosixPath(out).is_absolute():
        raise ConfigError(f"--out '{out}' is relative, and a job begins in a folder that is deleted; {remedy}")
    return PurePosixPath(out)
