from __future__ import annotations

import pickle
import threading
from types import SimpleNamespace

import pytest

from advlora.config import EvaluationProtocol
from advlora.errors import UserError
from advlora_platform.execution.bridge import Bridge
from advlora_platform.study.failures import Failure
from advlora_platform.study.messages import Failed, Reported, Started
from advlora_platform.study.trials import TrialFactory, to_tune

pytestmark = pytest.mark.unit


class Diary:
    """An observer that writes everything down."""

    def __init__(self):
        self.entries = []

    def trial_started(self, trial):
        self.entries.append(("started", trial.seed))

    def trial_reported(self, trial, epoch, metrics):
        self.entries.append(("reported", epoch, dict(metrics)))

    def trial_finished(self, trial, metrics, stopped_early, unreliable=""):
        self.entries.append(("finished", dict(metrics), stopped_early, unreliable))

    def trial_failed(self, trial, failure):
        self.entries.append(("failed", failure))


@pytest.fixture
def diary():
    return Diary()


@pytest.fixture
def bridge(diary):
    return Bridge(FACTORY, [diary], lambda: diary.entries.append("alive"))


FACTORY = TrialFactory({}, EvaluationProtocol(), "d")
TRIAL = SimpleNamespace(trial_id="t", config=to_tune(FACTORY.trial("a", 3, {}, "search")))


def tell(bridge, message):
    bridge.on_trial_result(0, [], TRIAL, {**message.to_tune(), "training_iteration": 1})


def test_a_trial_is_told_from_start_to_end(bridge, diary):
    tell(bridge, Started())
    tell(bridge, Reported(1, {"train/loss": 2.0}))
    tell(bridge, Reported(2, {"train/loss": 1.0}, final=True, unreliable="monotone: no"))
    bridge.on_trial_complete(0, [], TRIAL)
    assert diary.entries == [
        ("started", 3),
        ("reported", 1, {"train/loss": 2.0}),
        ("reported", 2, {"train/loss": 1.0}),
        ("finished", {"train/loss": 1.0}, False, "monotone: no"),
    ]


def test_an_end_without_a_final_report_was_early(bridge, diary):
    tell(bridge, Reported(1, {"train/loss": 2.0, "val/clean_r1": 0.5}))
    tell(bridge, Reported(2, {"train/loss": 1.0}))
    bridge.on_trial_complete(0, [], TRIAL)
    assert diary.entries[-1] == ("finished", {"train/loss": 1.0, "val/clean_r1": 0.5}, True, "")


def test_a_failure_is_told_once(bridge, diary):
    tell(bridge, Failed(Failure("diverged", "loss nan")))
    bridge.on_trial_complete(0, [], TRIAL)
    assert diary.entries == [("failed", Failure("diverged", "loss nan"))]


def test_what_the_user_has_to_fix_stops_the_study_after_all_observers_know(bridge, diary):
    with pytest.raises(UserError, match=r"a/.*: no shard 3; the study has stopped, and the same command continues it"):
        tell(bridge, Failed(Failure("user_error", "no shard 3")))
    assert diary.entries == [("failed", Failure("user_error", "no shard 3"))]


def test_a_lost_slot_is_a_failure(bridge, diary):
    bridge.on_trial_error(0, [], TRIAL)
    assert diary.entries == [("failed", Failure("lost_worker", "the process of the slot died"))]


def test_tune_may_save_its_callbacks_whatever_the_observers_hold(diary):
    diary.lock = threading.RLock()
    pickle.dumps(Bridge(FACTORY, [diary], diary.lock.acquire))


def test_every_turn_of_the_loop_is_a_sign_of_life(bridge, diary):
    bridge.on_step_end(0, [])
    assert diary.entries == ["alive"]
