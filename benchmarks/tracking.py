"""How fast many trials at once are tracked, and whether anything is lost: MLflow over PostgreSQL, an artefact folder.

The trials report in turns, as a driver hears of them from as many slots. Counted are the seconds until the last metric
is in the store, and the seconds that the driver itself was held up; then a fresh client reads back all of it.

Usage, where PostgreSQL is installed (Debian: `apt-get install postgresql`):
    python -m benchmarks.tracking --trials 32
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from advlora.config import parse
from benchmarks.chaos.cluster import Server
from benchmarks.postgres import Postgres

METRICS = tuple(f"val/made_up_{number}" for number in range(12))
NAME = "tracking"


def measure(place: Path, trials: int, epochs: int) -> tuple[float, float, int, int]:
    """Tracks made-up trials and reads them back.

    Returns:
        Metrics per second, seconds that the driver was held up, metrics that are wrong or missing in the store, and
        trials without their configuration among the artefacts.
    """
    from mlflow import MlflowClient

    from advlora_platform.study import open_folder, trials_of
    from advlora_platform.study.ablation import AblationStudy
    from advlora_platform.tracking import MlflowTracker

    study = parse(AblationStudy, {"name": NAME, "seeds": list(range(trials)), "arms": {"LoRA": {}}})
    folder, factory = open_folder(study, place / "runs", {}), trials_of(study)
    made_up = [factory.trial("LoRA", seed, {}, "ablate") for seed in study.seeds]
    expected = {trial.id: {name: trial.seed + index / 100 for index, name in enumerate(METRICS)} for trial in made_up}
    tracker = MlflowTracker(study, folder)
    begin = time.perf_counter()
    for trial in made_up:
        tracker.trial_started(trial)
    for epoch in range(1, epochs + 1):
        for trial in made_up:
            tracker.trial_reported(trial, epoch, expected[trial.id])
    for trial in made_up:
        tracker.trial_finished(trial, expected[trial.id], False)
    held_up = time.perf_counter() - begin
    if not tracker.flush(600):
        raise TimeoutError("the store did not take everything within ten minutes")
    seconds = time.perf_counter() - begin
    tracker.close()

    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None, "the tracker made it"
    runs = client.search_runs([experiment.experiment_id], "tags.`advlora.kind` = 'trial'", max_results=5000)
    found = {run.data.tags["advlora.trial"]: run for run in runs}
    lost = 0
    for trial_id, metrics in expected.items():
        for name, value in metrics.items():
            points = client.get_metric_history(found[trial_id].info.run_id, name) if trial_id in found else []
            steps = {point.step for point in points if point.value == value}
            lost += epochs - len(steps & set(range(1, epochs + 1)))
    bare = sum(not client.list_artifacts(run.info.run_id) for run in runs) + trials - len(runs)
    return trials * epochs * len(METRICS) / seconds, held_up, lost, bare


def main() -> None:
    """Prints a line per way to the store; ends with 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    losses = 0
    for way in ("server", "database"):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
            place = Path(scratch)
            place.chmod(0o755)
            with Postgres(place / "postgres") as postgres:
                server = Server(place, postgres.uri) if way == "server" else None
                os.environ["MLFLOW_TRACKING_URI"] = server.uri if server else postgres.uri
                try:
                    rate, held_up, lost, bare = measure(place, options.trials, options.epochs)
                finally:
                    if server:
                        server.kill()
        losses += lost + bare
        print(
            f"{way}: {options.trials} trials x {options.epochs} epochs x {len(METRICS)} metrics, {rate:.0f} metrics/s, "
            f"driver held up {held_up:.1f} s, {lost} metrics and {bare} configurations lost",
            flush=True,
        )
    sys.exit(1 if losses else 0)


if __name__ == "__main__":
    main()
