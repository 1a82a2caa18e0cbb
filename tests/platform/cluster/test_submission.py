"""A real head that asks for a token: a study is submitted to it, followed, listed, and its cluster examined."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.platform import commands

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]
STARTS = 3
"""Tries, since Ray gives its raylet 30 seconds, which a busy machine may need for itself."""


def free_ports(count: int) -> list[int]:
    """Ports below those that Ray gives its workers."""
    found, candidate = [], 6400 + os.getpid() % 2000
    while len(found) < count:
        candidate += 1
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", candidate)):
                found.append(candidate)
    return found


def start(folder: Path, environment: dict[str, str]) -> tuple[subprocess.Popen, str]:
    head, dashboard, client, agent = free_ports(4)
    ports = [f"--port={head}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    ports.append(f"--dashboard-agent-listen-port={agent}")
    size = ["--num-cpus=1", "--num-gpus=0", "--object-store-memory=100000000", f"--temp-dir={folder}"]
    ray = Path(sys.executable).with_name("ray")
    command = [ray, "start", "--head", "--disable-usage-stats", "--block", *ports, *size]
    with (folder / "head.log").open("a") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    return process, f"http://127.0.0.1:{dashboard}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a head that asks for a token, and an environment that has it."""
    folder = tmp_path_factory.mktemp("ray")
    (folder / "token").write_text("0123456789abcdef" * 2)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    environment = {**commands.environment(), **token, "PATH": path}
    for _ in range(STARTS):
        process, address = start(folder, environment)
        while process.poll() is None and "Ray runtime started" not in (folder / "head.log").read_text():
            time.sleep(1)
        if process.poll() is None:
            break
    else:
        pytest.fail(f"no head: see {folder / 'head.log'}")
    yield address, environment
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(60)


@pytest.fixture
def study(tmp_path) -> Path:
    content = {"kind": "ablation", "name": "small", "seeds": [0], "arms": {"none": {"adapter": "none"}}}
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump({**content, "base": commands.BASE, "protocol": commands.PROTOCOL}))
    return file


def run(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess:
    command = commands.command(folder, *arguments)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


def test_a_study_is_submitted_followed_and_listed(cluster, study, tmp_path):
    (address, environment), out = cluster, tmp_path / "shared" / "small"
    answer = run(tmp_path, environment, "submit", str(study), "--address", address, "--out", str(out), "--follow")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (arm,) = json.loads((out / "summary.json").read_text())["arms"]
    assert [trial["status"] for trial in arm["trials"]] == ["done"]
    assert (out.parent / "mlflow.db").exists()
    listed = json.loads(run(tmp_path, environment, "status", "--address", address, "--json").stdout)
    (job,) = listed["jobs"]
    assert (job["study"], job["status"], job["out"]) == ("small", "SUCCEEDED", str(out))
    stopped = run(tmp_path, environment, "stop", job["id"], "--address", address)
    assert "had ended already" in stopped.stdout


def test_the_cluster_is_examined(cluster, tmp_path):
    address, environment = cluster
    answer = run(tmp_path, environment, "doctor", "--address", address, "--out", str(tmp_path / "shared"), "--json")
    checks = {check["name"]: check for check in json.loads(answer.stdout)["checks"]}
    assert {name for name, check in checks.items() if not check["ok"]} <= {"head memory"}, answer.stderr
    assert checks["authentication"]["found"] == "by token"
    assert checks["storage"]["found"].endswith("shared and writable")


def test_without_the_token_one_sentence_says_what_is_missing(cluster, study, tmp_path):
    address, _ = cluster
    arguments = ("submit", str(study), "--address", address, "--out", "/mnt/small")
    answer = run(tmp_path, {**commands.environment(), "RAY_AUTH_MODE": "disabled"}, *arguments)
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
    assert "asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH" in answer.stderr
