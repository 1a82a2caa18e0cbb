"""`advlora status`: the studies that are jobs of a cluster."""

from __future__ import annotations

from dataclasses import asdict

import click

from advlora_platform.cli.console import output, print_json
from advlora_platform.cli.options import address_option, json_option


@click.command("status", epilog="Example: advlora status --address http://HEAD:8265")
@click.argument("job", required=False)
@address_option
@json_option
def command(job: str | None, address: str, as_json: bool) -> None:
    """List the studies on a cluster, the newest first, or say more about one job."""
    from advlora_platform.cluster.jobs import Cluster

    cluster = Cluster(address)
    found = cluster.studies() if job is None else [cluster.job(job)]
    if as_json:
        print_json({"jobs": [asdict(each) for each in found]})
        return
    for each in found:
        output.print(f"{each.id:<32}  {each.status:<9}  {each.started:<19}  {each.out}")
        if job is not None and each.message:
            output.print(each.message)
    if not found:
        output.print(f"no study was submitted to {address}")
