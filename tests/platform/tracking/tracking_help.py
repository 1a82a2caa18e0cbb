"""Folders of studies, trials that are played to observers, and a server for the tests of the tracker."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from advlora_platform.analysis import Summary, summarise_ablation, summarise_sweep
from advlora_platform.search.plan import plan_arms, scores_of
from advlora_platform.study.folder import StudyFolder, read_json, write_json
from advlora_platform.study.ledger import Ledger
from advlora_platform.study.sweep import SweepStudy
from advlora_platform.study.trials import Trial
from advlora_platform.tracking import MlflowTracker, tracker, ui_command
from advlora_platform.tracking.store import open_store
from tests.builders import TEST_ROBUST, VAL_ROBUST, factory


def folder(path: Path, study, study_id: str = "a1b2c3") -> StudyFolder:
    opened = StudyFolder(path)
    identity = {"study_id": study_id, "name": study.name, "kind": study.kind, "data_hash": "data", "provenance": {}}
    write_json(opened.identity, identity)
    return opened


def play(observers, trial: Trial, robust: float = 0.5, epochs: int = 2) -> None:
    """A trial from start to end, and what is tracked of it delivered if the store takes it."""
    for observer in observers:
        observer.trial_started(trial)
        for epoch in range(1, epochs + 1):
            observer.trial_reported(trial, epoch, {VAL_ROBUST: robust * epoch / epochs, "train/loss": 1 / epoch})
        observer.trial_finished(trial, {VAL_ROBUST: robust, TEST_ROBUST: robust - 0.1}, False)
        if isinstance(observer, MlflowTracker):
            observer.flush()


def summary(study, opened: StudyFolder, tracker) -> Summary:
    """What `launch.conclude` computes."""
    records = Ledger(opened).records()
    found = (records, read_json(opened.identity), tracker.runs())
    if isinstance(study, SweepStudy):
        return summarise_sweep(study, [], *found)
    return summarise_ablation(study, plan_arms(study, factory(study), scores_of(study, records)), *found)


def tracked(uri: str, study_id: str = "a1b2c3") -> dict[str, Run]:
    """Every run of a study by its name, as a fresh client sees them; fails where a name occurs twice."""
    client = open_store(uri)
    found = [run for each in client.search_experiments() for run in client.search_runs([each.experiment_id])]
    own = [run for run in found if run.data.tags["advlora.study_id"] == study_id]
    names = [run.info.run_name for run in own]
    assert len(set(names)) == len(names), names
    return dict(zip(names, own, strict=True))


def picture(uri: str, study_id: str = "a1b2c3") -> dict[str, dict]:
    """All that a store holds of a study but times and ids, by the names of its runs."""
    client, runs = open_store(uri), tracked(uri, study_id)
    names = {run.info.run_id: name for name, run in runs.items()}
    names[None] = ""
    return {
        name: {
            "status": run.info.status,
            "parent": names[run.data.tags.get("mlflow.parentRunId")],
            "params": run.data.params,
            "tags": {key: tag for key, tag in run.data.tags.items() if key.startswith(("advlora.failure", "guard"))},
            "best": "advlora.best" in run.data.tags,
            "points": {
                key: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)]
                for key in run.data.metrics
            },
            "artefacts": sorted(entry.path for entry in client.list_artifacts(run.info.run_id)),
        }
        for name, run in runs.items()
    }


class Watched:
    """A real client that counts its calls, and fails at every n-th: in turns before the call and after it."""

    def __init__(self, client: MlflowClient, every: int = 0) -> None:
        self.client, self.every = client, every
        self.calls: Counter[str] = Counter()
        self.failures = 0

    def __getattr__(self, name: str) -> Callable:
        def call(*arguments, **options):
            self.calls[name] += 1
            fails = self.every and self.calls.total() % self.every == 0
            self.failures += bool(fails)
            if fails and self.failures % 2:
                raise ConnectionError("the call got lost")
            answer = getattr(self.client, name)(*arguments, **options)
            if fails:
                raise ConnectionError("the answer got lost")
            return answer

        return call


def watch(monkeypatch, every: int = 0) -> list[Watched]:
    """Has trackers watched that are opened from now on; the list grows as they are."""
    opened: list[Watched] = []

    def open_watched(uri: str) -> Watched:
        opened.append(Watched(open_store(uri), every))
        return opened[-1]

    monkeypatch.setattr(tracker, "open_store", open_watched)
    return opened


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
