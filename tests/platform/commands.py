"""The command line as a person uses it: real processes, real Ray, real MLflow; small studies to run by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from mlflow import MlflowClient

BASE = {"data": {"train_samples": 192}, "attack": {"steps": 1}, "optimiser": {"batch_size": 32, "epochs": 2}}
PROTOCOL = {"attacks": [{"steps": 3}], "samples": {"val": 64, "test": 64}, "curve": ["16/255"], "interval": 1}
PROTOCOL["guards"] = {"samples": 32, "queries": 10, "tolerance": 0.2}


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-c", "from advlora_platform.cli import main; main()", *arguments]


def environment() -> dict[str, str]:
    hidden = {"MLFLOW_TRACKING_URI", "RAY_ADDRESS"}
    return {name: value for name, value in os.environ.items() if name not in hidden}


def advlora(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    answer = subprocess.run(
        command(folder, *arguments), cwd=folder, env=environment(), capture_output=True, text=True, timeout=280
    )
    assert "Traceback" not in answer.stderr, answer.stderr
    return answer


def records(folder: Path) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in (folder / "ledger").glob("*.json")}


def settled(folder: Path) -> dict[str, float]:
    return {name: entry["ended"] for name, entry in records(folder).items() if entry["status"] == "done"}


def tracked(folder: Path, study: str) -> dict[str, list]:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(study)
    kinds: dict[str, list] = {"study": [], "arm": [], "trial": []}
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        kinds[run.data.tags["advlora.kind"]].append(run)
    return kinds
