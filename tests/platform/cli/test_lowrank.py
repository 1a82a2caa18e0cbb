"""`advlora lowrank` by its command, on real Ray and MLflow: it trains its two arms, takes them apart and logs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from mlflow import MlflowClient

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SETTINGS = (
    "seeds=[0]",
    "tuning=null",
    "data.train_samples=64",
    "optimiser.epochs=1",
    "attack.steps=1",
    "protocol={attacks: [{steps: 1}], samples: {val: 16, test: 32}, interval: 0, guards: {enabled: false}}",
)


def test_without_a_study_two_arms_are_trained_and_the_figures_are_in_mlflow(tmp_path):
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    program = [sys.executable, "-c", "from advlora_platform.cli import main; main()"]
    hidden = {"MLFLOW_TRACKING_URI", "RAY_ADDRESS"}
    answer = subprocess.run(
        [*program, "lowrank", "--ranks", "0,4", "--json", *options],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name not in hidden},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert [change["arm"] for change in found["changes"]] == ["full adversarial", "full clean"]
    assert found["trained"] == {}
    assert (tmp_path / "runs" / "lowrank" / "lowrank" / "report.md").is_file()

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("lowrank")
    runs = client.search_runs([experiment.experiment_id], "tags.`advlora.kind` = 'study'")
    assert len(runs) == 1
    assert runs[0].data.metrics["lowrank/adversarial/truncated/4"] == found["changes"][0]["truncated"]["4"]
    logged = {entry.path for entry in client.list_artifacts(runs[0].info.run_id, "lowrank/figures")}
    assert logged == {f"lowrank/figures/{name}.png" for name in ("energy", "layers", "truncation")}
