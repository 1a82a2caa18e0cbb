"""The judge of a disturbed study finds what is made wrong; the whole is in the soak."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
from mlflow import MlflowClient

from benchmarks.chaos.checks import differences, untracked

LEDGER = {
    name: {
        "status": "done",
        "metrics": {"val/clean_r1": 0.5, "cost/seconds": seconds},
        "history": [{"epoch": 1, "val/clean_r1": 0.5}],
    }
    for name, seconds in (("a", 1.0), ("b", 2.0))
}


def changed(trial: str, **values):
    ledger = copy.deepcopy(LEDGER)
    ledger[trial].update(values)
    return ledger


@pytest.mark.unit
def test_what_took_another_time_is_the_same():
    assert list(differences(changed("a", metrics={"val/clean_r1": 0.5, "cost/seconds": 9.0}), LEDGER)) == []


@pytest.mark.unit
@pytest.mark.parametrize(
    ("ledger", "fault"),
    [
        ({"a": LEDGER["a"]}, "trial b is missing"),
        ({**LEDGER, "c": LEDGER["a"]}, "trial c was run, though an undisturbed study has none such"),
        (changed("a", status="failed"), "trial a is failed instead of done"),
        (
            changed("b", metrics={"val/clean_r1": 0.25}),
            "trial b has other numbers: val/clean_r1 0.25 not 0.5",
        ),
        (changed("b", history=[{"epoch": 1}, {"epoch": 1}]), "trial b has other epochs"),
    ],
)
def test_every_other_difference_is_a_fault(ledger, fault):
    assert list(differences(ledger, LEDGER)) == [fault]


def tracked(uri: str, trials: dict[str, float], ended: str = "FINISHED") -> None:
    client = MlflowClient(uri)
    known = client.get_experiment_by_name("s")
    experiment = known.experiment_id if known else client.create_experiment("s")
    for trial, value in trials.items():
        run = client.create_run(experiment, tags={"advlora.kind": "trial", "advlora.trial": trial}, run_name=trial)
        client.log_metric(run.info.run_id, "val/clean_r1", value)
        client.set_terminated(run.info.run_id, ended)


@pytest.mark.integration
def test_doubles_open_runs_and_other_numbers_in_mlflow_are_faults(tmp_path):
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    records = {name: {"metrics": {"val/clean_r1": 0.5}} for name in "ab"}
    tracked(store, {"a": 0.5, "b": 0.5})
    assert list(untracked(store, "s", records)) == []
    tracked(store, {"a": 0.5})
    tracked(store, {"c": 0.25}, "KILLED")
    assert set(untracked(store, "s", records)) == {
        "MLflow has 2 runs of trial a",
        "MLflow knows trial c, the ledger does not",
        "MLflow's run c is KILLED",
    }
    assert "MLflow's run a has val/clean_r1 0.5 instead of 0.75" in set(
        untracked(store, "s", {"a": {"metrics": {"val/clean_r1": 0.75}}, "b": records["b"], "c": {"metrics": {}}})
    )


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(1800)
def test_ten_kills_change_nothing(tmp_path):
    command = [sys.executable, "-m", "benchmarks.chaos", "--kills", "10", "--studies", "ablation", "--out", tmp_path]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=1700)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "0 faults" in answer.stdout
