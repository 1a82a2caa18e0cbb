from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler

from advlora_platform.search.early_stopping import build_scheduler
from advlora_platform.study.messages import Reported, Started
from tests.platform.search.small_searches import ROBUST, record, sweep

pytestmark = pytest.mark.unit


def study(**scheduler):
    settings = {"kind": "asha", "grace_epochs": 1, "reduction_factor": 2, **scheduler}
    return sweep(base={"optimiser": {"epochs": 4}}, search={"scheduler": settings})


def decision(scheduler, name, epoch, score):
    trial = SimpleNamespace(trial_id=name)
    if name not in scheduler._trial_info:
        scheduler.on_trial_add(None, trial)
    return scheduler.on_trial_result(None, trial, Reported(epoch, {ROBUST: score}).to_tune())


def test_the_weaker_half_is_stopped_and_the_last_epoch_always_runs_to_its_report():
    scheduler = build_scheduler(study(), records=[])
    assert decision(scheduler, "good", 1, 0.9) == TrialScheduler.CONTINUE
    assert decision(scheduler, "bad", 1, 0.1) == TrialScheduler.STOP
    assert decision(scheduler, "good", 4, 0.9) == TrialScheduler.CONTINUE


def test_an_epoch_without_an_examination_stops_nobody():
    scheduler = build_scheduler(study(), records=[])
    trial = SimpleNamespace(trial_id="a")
    scheduler.on_trial_add(None, trial)
    for message in (Started(), Reported(1, {"train/loss": 1.0})):
        assert scheduler.on_trial_result(None, trial, message.to_tune()) == TrialScheduler.CONTINUE


def test_a_continued_sweep_measures_by_the_trials_before(factory):
    earlier = [record(factory.trial("search", seed, {}, "search"), score=0.8) for seed in range(3)]
    scheduler = build_scheduler(study(), records=earlier)
    assert decision(scheduler, "bad", 1, 0.5) == TrialScheduler.STOP


def test_there_is_no_scheduler_where_nothing_could_be_stopped():
    assert build_scheduler(study(kind="none"), records=[]) is None
    assert build_scheduler(study(grace_epochs=4), records=[]) is None
