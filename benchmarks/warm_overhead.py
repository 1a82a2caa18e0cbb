"""What the platform adds to a trial: warm path against the bare training loop, interleaved in one run.

After every trial that comes out of the warm executor, the same trial is run in this process by `fine_tune` alone, while
the executor waits. The overhead is all that lies between two free moments of the driver (Tune, slot, checkpoint,
ledger), less the bare trial. Both must give the same numbers.

Usage:
    python -m benchmarks.warm_overhead --trials 12
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from advlora.config import parse
from advlora.training.trainer import fine_tune
from advlora.training.workbench import Workbench
from advlora_platform.execution import run
from advlora_platform.search.ablation import PlanSearcher
from advlora_platform.study.ablation import AblationStudy
from advlora_platform.study.failures import Failure
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.ledger import Ledger
from advlora_platform.study.trials import Trial, TrialFactory

UNSTABLE = ("cost/seconds", "cost/peak_memory_mb")


class Stopwatch:
    """An observer that times the warm trial and then runs the bare one."""

    def __init__(self, study: AblationStudy) -> None:
        self.study, self.bench = study, Workbench()
        self.warm: list[float] = []
        self.bare: list[float] = []
        self.free: float | None = None

    def trial_started(self, trial: Trial) -> None:
        """Nothing."""

    def trial_reported(self, trial: Trial, epoch: int, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def trial_finished(
        self, trial: Trial, metrics: Mapping[str, float], stopped_early: bool, unreliable: str = ""
    ) -> None:
        """Times both."""
        begin = time.perf_counter()
        (*_, last) = fine_tune(trial.config, self.study.protocol, bench=self.bench, test=trial.test)
        end = time.perf_counter()
        same = {name: value for name, value in last.metrics.items() if name not in UNSTABLE}
        assert same == {name: value for name, value in metrics.items() if name not in UNSTABLE}, "numbers differ"
        if self.free is not None:  # the first trial pays for the start
            self.warm.append(begin - self.free)
            self.bare.append(end - begin)
        self.free = time.perf_counter()

    def trial_failed(self, trial: Trial, failure: Failure) -> None:
        """Ends the measurement."""
        raise RuntimeError(failure.message)


def main() -> None:
    """Runs the trials and prints medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--train-samples", type=int, default=512)
    arguments = parser.parse_args()
    base = {"data": {"train_samples": arguments.train_samples}, "optimiser": {"epochs": 2}}
    protocol = {"attacks": [{"steps": 5}], "samples": {"val": 100, "test": 100}, "interval": 0}
    content = {"name": "overhead", "base": base, "protocol": protocol, "arms": {"AdvLoRA": {}}, "max_concurrent": 1}
    study = parse(AblationStudy, {**content, "seeds": list(range(arguments.trials))})
    factory, watch = TrialFactory(dict(study.base), study.protocol, "benchmark"), Stopwatch(study)
    resources = factory.trial("AdvLoRA", 0, {}, "ablate").config.resources
    with tempfile.TemporaryDirectory() as place:
        folder = StudyFolder(Path(place))
        observers = [Ledger(folder), watch]
        run(PlanSearcher(study, factory, []), factory, folder, observers, resources=resources, max_concurrent=1)
    differences = [warm - bare for warm, bare in zip(watch.warm, watch.bare, strict=True)]
    ratios = [warm / bare for warm, bare in zip(watch.warm, watch.bare, strict=True)]
    print(f"{len(differences)} trials after the first; median (smallest to largest)")
    for name, values in (
        ("bare s", watch.bare),
        ("warm s", watch.warm),
        ("overhead s", differences),
        ("ratio", ratios),
    ):
        print(f"{name:<12} {statistics.median(values):7.3f}  ({min(values):.3f} to {max(values):.3f})")


if __name__ == "__main__":
    main()
