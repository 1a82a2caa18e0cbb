"""`advlora evaluate` and its MLflow store."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml

from advlora_platform.tracking.store import open_store

pytestmark = pytest.mark.integration

PROTOCOL = {"attacks": [{"steps": 2}], "samples": {"val": 12, "test": 12}, "guards": {"enabled": False}}


def test_a_measurement_is_a_run_with_its_record(advlora, store):
    Path("tiny.yaml").write_text(yaml.safe_dump(PROTOCOL))
    answer = advlora("evaluate", "tiny-clip", "--protocol", "tiny.yaml", "--json")
    assert answer.code == 0, answer.err
    client = open_store(store)
    experiment = client.get_experiment_by_name("evaluations")
    (run,) = client.search_runs([experiment.experiment_id])
    (file,) = Path("records").iterdir()
    assert [entry.path for entry in client.list_artifacts(run.info.run_id)] == [file.name]
    assert run.info.run_name == "tiny-clip · tiny"
    metrics = json.loads(answer.out)["metrics"]
    assert {name: run.data.metrics[name] for name in metrics} == metrics


def test_a_store_that_does_not_answer_is_said_before_anything_is_computed(advlora, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    begin = time.monotonic()
    answer = advlora("evaluate", "tiny-clip", "--protocol", "autoattack_plus")  # which would take minutes
    assert (answer.code, answer.err.count("error:")) == (2, 1), answer.err
    assert "http://127.0.0.1:9 cannot be used" in answer.err
    assert time.monotonic() - begin < 60
    assert not Path("records").exists()


def test_an_unknown_run_is_one_sentence(advlora, store):
    answer = advlora("evaluate", "0" * 32)
    assert (answer.code, answer.err.count("error:")) == (2, 1), answer.err
    assert "has no run '00000000" in answer.err
