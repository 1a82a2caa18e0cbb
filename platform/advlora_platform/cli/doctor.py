"""`advlora doctor`: check that this installation computes what it should."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from advlora_platform.cli.console import output, print_json, status
from advlora_platform.cli.options import json_option

if TYPE_CHECKING:
    from advlora_platform.doctor import Check

WIDTH = 80


@click.command("doctor", epilog="Example: advlora doctor --address http://HEAD:8265 --out /mnt/runs")
@click.option("--address", metavar="http://HEAD:8265", help="Check the cluster of this dashboard instead.")
@click.option("--out", metavar="FOLDER", help="With --address: a folder on the storage for studies.")
@json_option
def command(address: str | None, out: str | None, as_json: bool) -> None:
    """Check versions, device and numbers of this installation; under a minute on two cores.

    The embedded model is attacked under a shipped protocol, and what becomes of every image is compared with what
    became of it where the package was made, and with the accuracy by the attacks of pyautoattack. Ends with code 1 if a
    check fails.

    With --address, a job on the cluster checks versions, storage, clocks, GPUs, tracking and the head's memory.
    """
    from dataclasses import asdict

    checks = _here() if address is None else _there(address, out)
    failed = [check for check in checks if not check.ok]
    if as_json:
        print_json({"ok": not failed, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            _show(check.name, check.found, "ok" if check.ok else "FAILED")
            if not check.ok:
                output.print(f"  fix: {check.fix}")
        output.print(f"\n{len(failed)} of {len(checks)} checks failed" if failed else "\nall checks are ok")
    raise SystemExit(1 if failed else 0)


def _here() -> list[Check]:
    from advlora_platform.doctor import examine

    with status("attacking the embedded model"):
        return list(examine())


def _there(address: str, out: str | None) -> list[Check]:
    from pathlib import PurePosixPath

    from advlora.errors import ConfigError
    from advlora_platform.cluster.checks import examine_cluster

    if out is None or not PurePosixPath(out).is_absolute():
        raise ConfigError("--address needs --out FOLDER: an absolute path on the storage where studies shall lie")
    with status("looking around on the cluster"):
        return list(examine_cluster(address, PurePosixPath(out)))


def _show(name: str, found: str, verdict: str) -> None:
    """Prints a line; what is found wraps below itself, so that no line is wider than a terminal."""
    import textwrap

    lines = textwrap.wrap(found, WIDTH - 26)
    output.print(f"{name:<16}  {lines[0]:<{WIDTH - 26}}  {verdict}")
    for line in lines[1:]:
        output.print(f"{'':<16}  {line}")
