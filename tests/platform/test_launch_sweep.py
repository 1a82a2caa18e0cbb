"""A sweep by its command, on real Ray and MLflow: search, early stopping, confirmation, and the same command again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from tests.platform.commands import BASE, PROTOCOL, advlora, records, tracked

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
