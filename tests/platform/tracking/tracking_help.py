"""Studies, cells and a server for the tests of the tracker."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from advlora.config import parse
from advlora_platform.study.cells import Cell, CellFactory
from advlora_platform.study.folder import StudyFolder, write_json
from advlora_platform.study.spec import AblationStudy, SweepStudy
from advlora_platform.tracking import ui_command

ROBUST = "val/robust_r1:8_255"
WIDE = {"adapter.rank": 16}


def ablation(**changes) -> AblationStudy:
    content = {"name": "parts", "description": "Which part?", "seeds": [0, 1], "arms": {"plain": {}, "wide": WIDE}}
    return parse(AblationStudy, {**content, **changes})


def sweep() -> SweepStudy:
    return parse(SweepStudy, {"name": "search", "parameters": {"adapter.rank": {"type": "int", "low": 1, "high": 8}}})


def folder(path: Path, study, study_id: str = "a1b2c3") -> StudyFolder:
    opened = StudyFolder(path)
    write_json(opened.identity, {"study_id": study_id, "name": study.name, "kind": study.kind})
    return opened


def cell(arm: str = "plain", seed: int = 0, phase: str = "ablate", **values) -> Cell:
    factory = CellFactory({}, ablation().protocol, "data")
    dotted = {key.replace("__", "."): value for key, value in values.items()}
    return factory.cell(arm, seed, {**(WIDE if arm == "wide" else {}), **dotted}, phase)


def play(observer, trial: Cell, robust: float = 0.5, epochs: int = 2) -> None:
    """A trial from start to end."""
    observer.trial_started(trial)
    for epoch in range(1, epochs + 1):
        observer.trial_reported(trial, epoch, {ROBUST: robust * epoch / epochs, "train/loss": 1 / epoch})
    observer.trial_finished(trial, {ROBUST: robust, "cost/seconds": 3.0}, False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Server:
    """A real MLflow server in its own process group."""

    file: Path
    port: int
    process: subprocess.Popen | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = ui_command(f"sqlite:///{self.file}", "127.0.0.1", self.port)
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        with (self.file.parent / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.file.parent, env=environment, start_new_session=True
            )
        wait_for(self.uri, self.process)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None


def wait_for(uri: str, process: subprocess.Popen, seconds: float = 120) -> None:
    """Waits until a server that was started answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"no answer from {uri} within {seconds} s")
