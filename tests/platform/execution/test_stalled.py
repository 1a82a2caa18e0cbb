"""A worker that hangs: its trial fails, its process is killed, and the slot goes on. On real Ray."""

from __future__ import annotations

import os
import signal

import pytest

from advlora.errors import UserError
from advlora_platform.study.failures import Failure, class_of, overdue, silences
from tests.platform.execution.test_run import STUDY, Listener, execute, processes

LIMIT = 20
"""Seconds; a healthy trial of this study reports within a few."""
BASE = {
    "data": {"train_samples": 32},
    "adapter": {"init": "gaussian", "alignment": {"enabled": False}},
    "attack": {"steps": 1},
    "optimiser": {"batch_size": 32, "epochs": 1},
}


@pytest.mark.unit
def test_the_time_is_six_hours_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.delenv("ADVLORA_STALLED_AFTER", raising=False)
    assert silences() == {"stalled": 21600.0}
    monkeypatch.setenv("ADVLORA_STALLED_AFTER", "90")
    assert silences() == {"stalled": 90.0}
    assert overdue(100, silences()) == Failure("stalled", "no report for 100 s (more than 90 s)")


@pytest.mark.unit
@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
def test_what_is_no_time_is_refused(monkeypatch, text):
    monkeypatch.setenv("ADVLORA_STALLED_AFTER", text)
    with pytest.raises(UserError, match=f"ADVLORA_STALLED_AFTER must be .* above 0, not '{text}'"):
        silences()


class Hanging(Listener):
    """Stops the workers of one arm whenever they take its trial up."""

    def __init__(self):
        super().__init__()
        self.stopped, self.left = [], None

    def trial_started(self, trial):
        super().trial_started(trial)
        if trial.arm == "hanging":
            workers = processes("SoloWorker")
            self.stopped += workers
            for worker in workers:
                os.kill(worker.pid, signal.SIGSTOP)
        else:
            self.left = [each.pid for each in self.stopped if each.is_running()]


@pytest.mark.integration
@pytest.mark.timeout(280)
def test_a_worker_that_hangs_is_killed_and_the_study_goes_on_and_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVLORA_STALLED_AFTER", str(LIMIT))
    listener, protocol = Hanging(), {**STUDY["protocol"], "guards": {"enabled": False}}
    arms = {"hanging": {"optimiser.epochs": 100}, "LoRA": {}}
    _, records, *_ = execute(tmp_path, listener, base=BASE, protocol=protocol, arms=arms)
    failure = records["hanging"].failure
    assert failure.kind == "stalled"
    assert f"more than {LIMIT} s" in failure.message
    assert records["hanging"].repeated  # the next launch tries it again
    tries = 1 + class_of(failure).retried
    assert listener.started[:tries] == ["hanging"] * tries
    assert set(listener.started[tries:]) == {"LoRA"}, "more than once where the machine is busy"
    assert records["LoRA"].status == "done"
    assert len(listener.stopped) == 2
    assert listener.left == []
