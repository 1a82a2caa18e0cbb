"""The main job by its commands, on real Ray and MLflow: ablate, kill, continue, export, train, evaluate, sweep."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.platform.commands import BASE, PROTOCOL, advlora, command, environment, records, settled, tracked

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ABLATION = {
    "kind": "ablation",
    "name": "small",
    "seeds": [0, 1],
    "base": BASE,
    "protocol": PROTOCOL,
    "factors": {"clustering": {"key": "adapter.init", "on": "kmeans", "off": "gaussian"}},
    "arms": {"full": {"adapter.kind": "full"}, "pretrained": {"adapter.kind": "none"}},
    "tuning": {
        "parameters": {"optimiser.learning_rate": {"type": "categorical", "choices": [1e-3, 4e-3]}},
        "trials": 2,
        "sampler": "grid",
    },
}
CELLS = 3 * 2 + 4 * 2


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    (folder / "small.yaml").write_text(yaml.safe_dump(ABLATION))
    return folder


@pytest.fixture(scope="module")
def interrupted(place) -> dict[str, float]:
    """Starts the study and kills its driver after some trials; returns what was done by then."""
    with (place / "killed.log").open("w") as log:
        driver = subprocess.Popen(
            command(place, "ablate", "small.yaml"), cwd=place, env=environment(), stdout=log, stderr=log
        )
        deadline = time.time() + 200
        while len(settled(place / "runs" / "small")) < 4:
            assert driver.poll() is None, (place / "killed.log").read_text()
            assert time.time() < deadline, (place / "killed.log").read_text()
            time.sleep(0.05)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    time.sleep(5)  # Ray's processes notice that their driver is gone
    return settled(place / "runs" / "small")


@pytest.fixture(scope="module")
def finished(place, interrupted) -> dict:
    answer = advlora(place, "ablate", "small.yaml", "--json")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_a_killed_study_continues_and_repeats_nothing(place, interrupted, finished):
    assert 4 <= len(interrupted) < CELLS
    after = settled(place / "runs" / "small")
    assert len(after) == CELLS
    assert {name: after[name] for name in interrupted} == interrupted


def test_the_table_is_complete_with_intervals_and_effects(finished):
    assert {arm["name"]: len(arm["trials"]) for arm in finished["arms"]} == {
        "all off": 2,
        "all on": 2,
        "full": 2,
        "pretrained": 2,
    }
    for arm in finished["arms"]:
        assert {trial["status"] for trial in arm["trials"]} == {"done"}
        estimate = arm["estimates"]["test/robust_r1:8_255"]
        assert estimate["n"] == 2
        assert estimate["low"] <= estimate["mean"] <= estimate["high"]
    assert finished["best"]["arm"] in {"all off", "all on", "full"}


def test_no_trial_has_two_runs_and_all_are_finished(place, finished):
    kinds = tracked(place, "small")
    trials = [run.data.tags["advlora.trial"] for run in kinds["trial"]]
    assert len(trials) == len(set(trials)) == CELLS
    assert len(kinds["study"]) == 1
    assert len(kinds["arm"]) == 4
    assert {run.info.status for runs in kinds.values() for run in runs} == {"FINISHED"}


def test_runs_nest_as_study_arm_trial(place, finished):
    kinds = tracked(place, "small")
    parent = {run.info.run_id: run.data.tags.get("mlflow.parentRunId") for runs in kinds.values() for run in runs}
    for run in kinds["trial"]:
        arm = parent[run.info.run_id]
        assert arm in {other.info.run_id for other in kinds["arm"]}
        assert parent[arm] == kinds["study"][0].info.run_id


def test_the_same_command_again_runs_nothing(place, finished):
    before = records(place / "runs" / "small")
    again = advlora(place, "ablate", "small.yaml", "--json")
    assert json.loads(again.stdout)["best"] == finished["best"]
    assert records(place / "runs" / "small") == before


def test_the_study_folder_holds_what_is_promised(place, finished):
    names = {path.name for path in (place / "runs" / "small").iterdir()}
    assert {"study.yaml", "ledger", "summary.json", "report.md", "report.html", "figures", "best.yaml"} <= names


def test_the_best_configuration_reproduces_and_its_exports_are_measured(place, finished):
    assert advlora(place, "export", "small", "-o", "best.yaml").returncode == 0
    provenance = yaml.safe_load((place / "best.yaml").read_text())["provenance"]
    assert provenance["mlflow_run_id"] in {run.info.run_id for run in tracked(place, "small")["trial"]}
    answer = advlora(place, "train", "best.yaml", "--out", "runs/best", "--json")
    assert answer.returncode == 0, answer.stderr
    result = json.loads(answer.stdout)
    assert result["verdict"].startswith("reproduced: every validation metric")
    measured = advlora(place, "evaluate", "runs/best/model", "--protocol", "small.yaml", "--split", "val", "--json")
    metrics = json.loads(measured.stdout)["metrics"]
    assert metrics["val/clean_r1"] == pytest.approx(result["metrics"]["val/clean_r1"], abs=1 / 64)
    assert metrics["val/robust_r1:8_255"] == pytest.approx(result["metrics"]["val/robust_r1:8_255"], abs=1 / 64)


def test_a_pack_is_verified_and_a_changed_one_is_refused(place, finished):
    assert advlora(place, "export", "small", "--pack", "pack").returncode == 0
    answer = advlora(place, "verify", "pack", "--trials", "1", "--json")
    assert answer.returncode == 0, answer.stderr
    assert [trial["verdict"] for trial in json.loads(answer.stdout)["trials"]] == ["equal"]
    record = next((place / "pack" / "ledger").glob("*.json"))
    record.write_text(record.read_text().replace('"seed": ', '"seed": 1'))
    refused = advlora(place, "verify", "pack")
    assert refused.returncode == 2
    assert f"ledger/{record.name} was changed after the pack was sealed" in refused.stderr


def test_an_impossible_request_is_refused_at_once(place):
    begin = time.time()
    answer = advlora(place, "ablate", "small.yaml", "--set", "resources.workers=4096", "--out", "runs/impossible")
    assert answer.returncode == 2
    assert "4096 worker(s)" in answer.stderr
    assert time.time() - begin < 60
    assert not (place / "runs" / "impossible").exists()
