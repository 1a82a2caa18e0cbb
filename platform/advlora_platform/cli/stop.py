"""`advlora stop`: end a study that is a job of a cluster."""

from __future__ import annotations

import click

from advlora_platform.cli.console import output
from advlora_platform.cli.options import address_option


@click.command("stop", epilog="Example: advlora stop quickstart-1f2e3d4c --address http://HEAD:8265")
@click.argument("job")
@address_option
def command(job: str, address: str) -> None:
    """Let a study end as after Ctrl-C. What is computed is kept: the same `advlora submit` continues it."""
    from advlora_platform.cluster.jobs import Cluster

    was_running = Cluster(address).stop(job)
    output.print(f"{job} is told to stop" if was_running else f"{job} had ended already")
