"""A persistent Ray cluster with one core, at its limit: what a killed driver held is free for the next one."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import yaml

from benchmarks.chaos.checks import held
from tests.platform.commands import BASE, PROTOCOL, command, environment, records, settled

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

STUDY = {
    "kind": "ablation",
    "name": "limit",
    "seeds": [0, 1, 2],
    "base": BASE,
    "protocol": PROTOCOL,
    "arms": {"LoRA": {"adapter.init": "gaussian"}, "full": {"adapter.kind": "full"}},
}


def place(**more: str) -> dict[str, str]:
    return {**environment(), "RAY_AUTH_MODE": "disabled", **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A head with one core, which no driver starts or stops."""
    port, said = free_port(), tmp_path_factory.mktemp("head") / "head.log"
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=1"]
    start += [f"--port={port}", "--include-dashboard=false"]
    start += [f"--temp-dir={tempfile.mkdtemp(prefix='ray')}"]  # short, as the name of a socket has to be
    with said.open("w") as log:
        head = subprocess.Popen(start, env=place(), stdout=log, stderr=log)
    until(lambda: "Ray runtime started" in said.read_text(), head, said)
    yield f"127.0.0.1:{port}"
    for process in (*psutil.Process(head.pid).children(recursive=True), head):
        process.kill()
    head.wait(60)


def test_the_same_command_goes_on_where_a_killed_driver_held_the_only_core(tmp_path, address, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    (tmp_path / "limit.yaml").write_text(yaml.safe_dump(STUDY))
    joined, folder = place(RAY_ADDRESS=address), tmp_path / "runs" / "limit"
    with (tmp_path / "driver.log").open("w") as log:
        driver = subprocess.Popen(
            command(tmp_path, "ablate", "limit.yaml"), cwd=tmp_path, env=joined, stdout=log, stderr=log
        )
        until(lambda: settled(folder), driver, tmp_path / "driver.log")
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    before, killed = settled(folder), time.time()
    with (tmp_path / "second.log").open("w") as log:
        second = subprocess.Popen(
            command(tmp_path, "ablate", "limit.yaml"), cwd=tmp_path, env=joined, stdout=log, stderr=log
        )
        until(lambda: len(settled(folder)) > len(before), second, tmp_path / "second.log")
        assert time.time() - killed < 150, "most of it is the start of two processes"
        assert second.wait(300) == 0, (tmp_path / "second.log").read_text()
    assert len(settled(folder)) == len(records(folder)) == 6
    time.sleep(2)
    assert held(address) == {"groups": [], "actors": [], "cpus": 1}


def until(happens, process: subprocess.Popen, log: Path) -> None:
    deadline = time.time() + 200
    while not happens():
        assert process.poll() is None, log.read_text()
        assert time.time() < deadline, log.read_text()
        time.sleep(0.1)
