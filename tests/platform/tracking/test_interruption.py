"""A real study by its command, interrupted: no run is left open."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from tests.platform.tracking.tracking_help import tracked

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(400)]

STUDY = {
    "kind": "ablation",
    "name": "small",
    "seeds": [0, 1],
    "base": {"data": {"train_samples": 64}, "attack": {"steps": 1}, "optimiser": {"batch_size": 32, "epochs": 500}},
    "protocol": {"attacks": [{"steps": 1}], "samples": {"val": 32, "test": 32}, "interval": 1},
    "arms": {"plain": {"adapter.rank": 2}},
    "max_concurrent": 1,
}


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_every_run_as_killed(store, tmp_path, name):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(STUDY))
    command = [sys.executable, "-c", "from advlora_platform.cli import main; main()", "ablate", "small.yaml"]
    hidden = {"MLFLOW_TRACKING_URI", "RAY_ADDRESS"}
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    with (tmp_path / "log").open("w") as log:
        driver = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 280
        while not reported(tmp_path):
            assert driver.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.2)
        driver.send_signal(getattr(signal, name))
        assert driver.wait(60) != 0
    finally:
        driver.kill()
        driver.wait()
    identity = json.loads((tmp_path / "runs" / "small" / "identity.json").read_text())
    statuses = {run: each.info.status for run, each in tracked(store, identity["study_id"]).items()}
    assert statuses == {"small": "KILLED", "plain": "KILLED", "plain · seed 0": "KILLED"}


def reported(place) -> bool:
    """Whether a trial of the study has reported an epoch."""
    return any(json.loads(path.read_text())["history"] for path in place.glob("runs/small/ledger/*.json"))
