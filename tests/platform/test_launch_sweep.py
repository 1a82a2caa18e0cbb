"""A sweep by its command, on real Ray and MLflow: search, early stopping, confirmation, and the same command again."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import yaml

from tests.platform.commands import BASE, PROTOCOL, advlora, command, environment, records, tracked

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SWEEP = {
    "kind": "sweep",
    "name": "small-sweep",
    "base": BASE,
    "protocol": PROTOCOL,
    "parameters": {
        "adapter.rank": {"type": "int", "low": 2, "high": 16, "log": True},
        "optimiser.learning_rate": {"type": "float", "low": 1e-6, "high": 1e-2, "log": True},
    },
    "points": [
        {"adapter.rank": 8, "optimiser.learning_rate": 4e-3},
        {"adapter.rank": 2, "optimiser.learning_rate": 1e-6},
    ],
    "search": {"trials": 5, "scheduler": {"kind": "asha", "grace_epochs": 1, "reduction_factor": 2}},
    "confirm": {"protocol": {**PROTOCOL, "attacks": [{"steps": 8}]}, "top": 2, "seeds": [7]},
    "max_concurrent": 1,
    "keep": "all",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    return folder


def test_a_sweep_stops_weak_trials_and_exports_the_confirmed_one(place):
    answer = advlora(place, "sweep", "sweep.yaml", "--json")
    assert answer.returncode == 0, answer.stderr
    summary = json.loads(answer.stdout)
    entries = records(place / "runs" / "small-sweep").values()
    searched = [entry for entry in entries if entry["phase"] == "search"]
    confirmed = {entry["trial_id"]: entry for entry in entries if entry["phase"] == "confirm"}
    assert len(searched) == 5
    assert {entry["status"] for entry in searched} == {"done", "stopped"}
    for entry in searched:  # a trial that was stopped has begun no further epoch
        state = torch.load(place / "runs" / "small-sweep" / "trials" / entry["trial_id"] / "state.pt")
        assert state["epoch"] == entry["history"][-1]["epoch"]
    assert len(confirmed) == 2
    robust = "val/robust_r1:8_255"
    assert summary["best"]["trial_id"] in confirmed
    assert summary["best"]["metrics"][robust] == max(entry["metrics"][robust] for entry in confirmed.values())
    assert "test/robust_r1:8_255" in summary["best"]["metrics"]
    assert summary["best"]["config"]["seed"] == 7
    kinds = tracked(place, "small-sweep")
    assert (len(kinds["trial"]), len(kinds["arm"])) == (7, 2)
    again = advlora(place, "sweep", "sweep.yaml", "--json")
    assert json.loads(again.stdout)["best"] == summary["best"]


def running(folder: Path) -> dict[str, dict]:
    """Trials that have a checkpoint and no result yet."""
    found = records(folder)
    return {name: entry for name, entry in found.items() if entry["status"] == "running" and entry["history"]}


@pytest.mark.slow
def test_a_killed_sweep_goes_on_with_the_trial_that_was_running(place):
    study = {**SWEEP, "name": "killed", "confirm": None, "search": {"trials": 2, "scheduler": {"kind": "none"}}}
    study["base"] = {**BASE, "optimiser": {**BASE["optimiser"], "epochs": 3}}
    (place / "killed.yaml").write_text(yaml.safe_dump(study))
    folder = place / "runs" / "killed"
    with (place / "killed.log").open("w") as log:
        driver = subprocess.Popen(
            command(place, "sweep", "killed.yaml"), cwd=place, env=environment(), stdout=log, stderr=log
        )
        try:
            deadline = time.time() + 200
            while not running(folder):
                assert driver.poll() is None, (place / "killed.log").read_text()
                assert time.time() < deadline, (place / "killed.log").read_text()
                time.sleep(0.05)
        finally:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
    time.sleep(5)  # Ray's processes notice that their driver is gone
    (left,) = running(folder).values()
    answer = advlora(place, "sweep", "killed.yaml", "--json")
    assert answer.returncode == 0, answer.stderr
    entries = records(folder)
    assert {entry["status"] for entry in entries.values()} == {"done"}
    assert len(entries) == 2
    resumed = entries[left["trial_id"]]
    assert len(resumed["spans"]) == 2
    # It went on from its checkpoint: epochs that were known before were not run again.
    assert [entry["epoch"] for entry in resumed["history"]] == [1, 2, 3]
    assert resumed["history"][: len(left["history"])] == left["history"]
    assert len(tracked(place, "killed")["trial"]) == 2
