"""Is what a disturbed study left the same as what an undisturbed one did, and has it left nothing else?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.chaos.victims import living

UNSTABLE = {"cost/seconds", "cost/peak_memory_mb"}
"""Metrics that are measured on the machine."""
LINGER_SECONDS = 30.0
Records = Mapping[str, Mapping[str, Any]]


def differences(records: Records, expected: Records) -> Iterator[str]:
    """Compares two ledgers trial by trial, to the last digit."""
    for name in sorted(expected.keys() | records.keys()):
        if name not in records:
            yield f"trial {name} is missing"
        elif name not in expected:
            yield f"trial {name} was run, though an undisturbed study has none such"
        elif records[name]["status"] != expected[name]["status"]:
            yield f"trial {name} is {records[name]['status']} instead of {expected[name]['status']}"
        elif (metrics := stable(records[name])) != (others := stable(expected[name])):
            odd = sorted(key for key in others.keys() | metrics.keys() if metrics.get(key) != others.get(key))
            told = (f"{key} {metrics.get(key)} not {others.get(key)}" for key in odd)
            yield f"trial {name} has other numbers: {', '.join(told)}"
        elif [entry["epoch"] for entry in records[name]["history"]] != [
            entry["epoch"] for entry in expected[name]["history"]
        ]:
            yield f"trial {name} has other epochs"


def stable(record: Mapping[str, Any]) -> dict[str, float]:
    """Returns the metrics that depend on the configuration alone."""
    return {name: value for name, value in record["metrics"].items() if name not in UNSTABLE}


def untracked(uri: str, study: str, records: Records) -> Iterator[str]:
    """Compares MLflow with the ledger: every trial is one finished run with the same last numbers."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(study)
    runs = client.search_runs([experiment.experiment_id], max_results=5000) if experiment else []
    trials = [run for run in runs if run.data.tags.get("advlora.kind") == "trial"]
    counted = Counter(run.data.tags["advlora.trial"] for run in trials)
    yield from (f"MLflow has {counted[name]} runs of trial {name}" for name in sorted(records) if counted[name] != 1)
    yield from (f"MLflow knows trial {name}, the ledger does not" for name in sorted(counted.keys() - records.keys()))
    for run in runs:
        if run.info.status != "FINISHED":
            yield f"MLflow's run {run.info.run_name} is {run.info.status}"
    for run in trials:
        for name, value in records.get(run.data.tags["advlora.trial"], {"metrics": {}})["metrics"].items():
            if run.data.metrics.get(name) != value:
                yield f"MLflow's run {run.info.run_name} has {name} {run.data.metrics.get(name)} instead of {value}"


def left_behind(address: str, cores: int, folder: Path) -> Iterator[str]:
    """Looks for processes, groups, actors, held cores and drafts of a study that ended."""
    deadline = time.monotonic() + LINGER_SECONDS
    while (state := held(address)) != {"groups": [], "actors": [], "cpus": cores} and time.monotonic() < deadline:
        time.sleep(1)
    if state != {"groups": [], "actors": [], "cpus": cores}:
        yield f"Ray still holds {state}"
    yield from (f"process {pid} still runs: {kind}" for kind, pids in living().items() for pid in pids)
    yield from (f"a draft was left: {path}" for path in sorted(folder.rglob("*.tmp")))


def held(address: str) -> dict[str, Any]:
    """Returns what a cluster has of groups and actors that are not dead, and its free cores."""
    code = f"""if True:
        import json, ray
        from ray._private.state import actors
        from ray.util import placement_group_table
        ray.init("{address}", logging_level="ERROR", log_to_driver=False)
        groups = [group["state"] for group in placement_group_table().values() if group["state"] != "REMOVED"]
        alive = [actor["ActorClassName"] for actor in actors().values() if actor["State"] != "DEAD"]
        print(json.dumps({{"groups": groups, "actors": alive, "cpus": ray.available_resources().get("CPU", 0)}}))"""
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120, env=dict(os.environ)
    )
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found
