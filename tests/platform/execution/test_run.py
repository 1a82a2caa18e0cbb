"""The warm executor on real Ray: the numbers of the bare loop, whatever ran before, whoever is killed."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass, field

import psutil
import pytest
import torch

from advlora.config import parse
from advlora.errors import UserError
from advlora.training.trainer import fine_tune
from advlora.training.workbench import Workbench
from advlora_platform.execution import run
from advlora_platform.search.ablation import PlanSearcher
from advlora_platform.study.ablation import AblationStudy, arms
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.ledger import Ledger
from advlora_platform.study.outcomes import load_outcomes, scores
from advlora_platform.study.trials import TrialFactory

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240), pytest.mark.usefixtures("shared_ray")]

STUDY = {
    "name": "small",
    "seeds": [0],
    "base": {
        "data": {"train_samples": 128},
        "attack": {"steps": 1},
        "optimiser": {"batch_size": 32, "epochs": 2},
    },
    "protocol": {
        "attacks": [{"steps": 2}],
        "samples": {"val": 32, "test": 32},
        "guards": {"samples": 16, "queries": 10},
    },
    "arms": {
        "AdvLoRA": {},
        "diverging": {"optimiser.learning_rate": 1e30},
        "full": {"adapter.kind": "full"},
        "LoRA": {"adapter.init": "gaussian", "adapter.alignment.enabled": False},
        "dropout": {"adapter.dropout": 0.5},
        "pretrained": {"adapter.kind": "none"},
    },
    "max_concurrent": 1,
}


SLOT = "SoloSlot|ResourceTrainable"
"""As Ray calls it while it rests, and while it runs."""


class Listener:
    """An observer that calls back at every epoch."""

    def __init__(self, on_epoch=lambda trial, epoch: None):
        self.on_epoch, self.started = on_epoch, []

    def trial_started(self, trial):
        self.started.append(trial.arm)

    def trial_reported(self, trial, epoch, metrics):
        self.on_epoch(trial, epoch)

    def trial_finished(self, trial, metrics, stopped_early, unreliable=""): ...

    def trial_failed(self, trial, failure): ...


def execute(folder, listener=None, factory=TrialFactory, **changes):
    """Runs a study and returns its trials and records by arm."""
    study = parse(AblationStudy, {**STUDY, **changes})
    factory = factory(dict(study.base), study.protocol, "d")
    place = StudyFolder(folder)
    trials = {arm.name: factory.trial(arm.name, 0, arm.values, "ablate") for arm in arms(study)}
    run(
        PlanSearcher(study, factory, Ledger(place).records()),
        factory,
        place,
        [Ledger(place), listener or Listener()],
        resources=next(iter(trials.values())).config.resources,
        max_concurrent=study.max_concurrent,
    )
    return trials, {record.arm: record for record in Ledger(place).records()}, study.protocol, place


def numbers(metrics):
    """Leaves out what is measured on the machine."""
    return {name: value for name, value in metrics.items() if name not in {"cost/seconds", "cost/peak_memory_mb"}}


def bare(trial, protocol):
    (*_, last) = fine_tune(trial.config, protocol, bench=Workbench(), test=trial.test)
    return numbers(last.metrics)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return execute(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize("arm", [arm for arm in STUDY["arms"] if arm != "diverging"])
def test_one_worker_gives_the_numbers_of_the_bare_loop_whatever_ran_before(small, arm):
    trials, records, protocol, _ = small
    assert records[arm].status == "done"
    assert numbers(records[arm].metrics) == bare(trials[arm], protocol)


def test_the_outcome_of_every_example_is_kept_of_a_trial_that_is_done(small):
    trials, records, _, place = small
    for arm in ("AdvLoRA", "pretrained"):
        rows = load_outcomes(place.trial(trials[arm].id))
        assert {len(row) for row in rows.values()} == {32}
        for metric in ("val/clean_r1", "val/robust_r1:8_255", "test/clean_r1", "test/robust_r1:8_255"):
            assert scores(rows, metric).mean() == pytest.approx(records[arm].metrics[metric])
    assert load_outcomes(place.trial(trials["diverging"].id)) == {}


def test_a_trial_that_diverges_fails_alone(small):
    _, records, *_ = small
    assert records["diverging"].status == "failed"
    assert records["diverging"].failure.kind == "diverged"
    assert "epoch 1" in records["diverging"].failure.message


def test_every_epoch_is_in_the_ledger(small):
    _, records, *_ = small
    assert [entry["epoch"] for entry in records["AdvLoRA"].history] == [1, 2]
    assert "val/clean_r1" in records["AdvLoRA"].history[0]


def test_two_workers_agree_with_one(tmp_path, small):
    """Sums of gradients are rounded in another order: the loss agrees to 1e-3, an accuracy to one image of 32."""
    _, alone, *_ = small
    base = {**STUDY["base"], "resources": {"workers": 2}}
    trials, records, _, place = execute(tmp_path, base=base, arms={"AdvLoRA": {}})
    shared = records["AdvLoRA"].metrics
    assert shared["train/loss"] == pytest.approx(alone["AdvLoRA"].metrics["train/loss"], rel=1e-3)
    for name, value in alone["AdvLoRA"].metrics.items():
        if "r1" in name:
            assert shared[name] == pytest.approx(value, abs=1 / 32 + 1e-9)
    mine = load_outcomes(place.trial(trials["AdvLoRA"].id))
    assert mine["test/clean_r1"].mean() == pytest.approx(shared["test/clean_r1"])
    assert shared["cost/vision_forwards"] == alone["AdvLoRA"].metrics["cost/vision_forwards"]


@pytest.mark.parametrize(
    ("victims", "workers"),
    [
        ({"AdvLoRA": "SoloWorker", "LoRA": SLOT}, 1),
        pytest.param({"AdvLoRA": "TrainWorker"}, 2, marks=pytest.mark.slow),
    ],
)
def test_whoever_is_killed_is_replaced_and_the_trial_goes_on_from_its_last_epoch(tmp_path, victims, workers):
    killed = {}

    def kill_once(trial, epoch):
        if trial.arm in victims and trial.arm not in killed:
            found = processes(victims[trial.arm])
            process = max(found, key=psutil.Process.create_time)  # an earlier run's may still be ending
            os.kill(process.pid, signal.SIGKILL)
            killed[trial.arm] = epoch

    listener, base = Listener(kill_once), {**STUDY["base"], "resources": {"workers": workers}}
    arms = {"AdvLoRA": {"optimiser.epochs": 3}, "LoRA": {"adapter.init": "gaussian"}}
    trials, records, protocol, place = execute(tmp_path, listener, base=base, arms=arms)
    assert killed == dict.fromkeys(victims, 1)
    assert {arm: listener.started.count(arm) for arm in arms} == {arm: 1 + (arm in victims) for arm in arms}
    assert {record.status for record in records.values()} == {"done"}
    for arm, record in records.items():
        assert [entry["epoch"] for entry in record.history] == list(range(1, trials[arm].config.optimiser.epochs + 1))
        rows = load_outcomes(place.trial(record.trial_id))
        robust = "test/robust_r1:8_255"
        assert scores(rows, robust).mean() == pytest.approx(record.metrics[robust])
        if workers == 1:
            assert numbers(record.metrics) == bare(trials[arm], protocol)


def test_a_full_disk_reaches_the_caller_as_what_it_is(tmp_path):
    def write(trial, epoch):
        with open("/dev/full", "w") as file:
            file.write("a record")

    with pytest.raises(OSError, match="No space left on device"):
        execute(tmp_path, Listener(write), arms={"AdvLoRA": {}})
    (record,) = Ledger(StudyFolder(tmp_path)).records()
    assert record.history  # what the ledger took before is kept


def test_an_error_of_the_user_in_a_worker_stops_the_study(tmp_path):
    with pytest.raises(UserError, match=r"absent.*the study has stopped"):
        execute(tmp_path, base={"data": {"name": "absent"}}, arms={"AdvLoRA": {}, "narrow": {"adapter.rank": 2}})
    (record,) = Ledger(StudyFolder(tmp_path)).records()
    assert (record.arm, record.failure.kind) == ("AdvLoRA", "user_error")
    assert "Traceback" in StudyFolder(tmp_path).error(record.trial_id).read_text()


@dataclass(frozen=True)
class Crowded(TrialFactory):
    """Finds no memory for the second trial of a process."""

    driver: int = field(default_factory=os.getpid)

    def from_tune(self, config):
        if os.getpid() != self.driver:
            os.environ["TRIALS_BEFORE"] = str(int(os.environ.get("TRIALS_BEFORE", "-1")) + 1)
            if os.environ["TRIALS_BEFORE"] != "0":
                raise torch.OutOfMemoryError("CUDA out of memory")
        return super().from_tune(config)


def test_a_trial_that_finds_no_memory_beside_an_earlier_one_is_tried_in_a_fresh_process(tmp_path):
    _, records, *_ = execute(tmp_path, factory=Crowded, arms={"AdvLoRA": {}, "narrow": {"adapter.rank": 2}})
    assert {arm: record.status for arm, record in records.items()} == {"AdvLoRA": "done", "narrow": "done"}


def processes(pattern):
    """Returns those of Ray's processes here that run a class."""
    return [each for each in psutil.Process().children(recursive=True) if re.search(pattern, titled(each))]


def titled(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
