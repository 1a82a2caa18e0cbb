from __future__ import annotations

import logging

import pytest

from advlora.config import EvaluationProtocol
from advlora_platform.study.failures import Failure
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.ledger import Ledger
from advlora_platform.study.observer import Expectant, Observer, Shielded, Waiting
from advlora_platform.study.trials import TrialFactory

pytestmark = pytest.mark.unit
TRIAL = TrialFactory({}, EvaluationProtocol(), "d").trial("LoRA", 0, {}, "ablate")


class Broken:
    """A display that can show nothing."""

    def fail(self, *told, **more):
        raise ValueError("closing tag '[/]' matches nothing")

    expect = trial_started = trial_reported = trial_finished = trial_failed = fail


def play(observer: Observer):
    if isinstance(observer, Expectant):
        observer.expect(4, 3)
    observer.trial_started(TRIAL)
    observer.trial_reported(TRIAL, 1, {"train/loss": 2.0})
    observer.trial_finished(TRIAL, {"train/loss": 1.0}, False, "monotone: no")
    observer.trial_failed(TRIAL, Failure("diverged", "loss nan"))


def test_a_broken_display_is_reported_once_and_stops_nothing(caplog):
    with caplog.at_level(logging.WARNING, "advlora"):
        play(Shielded(Broken()))
    (record,) = caplog.records
    assert record.getMessage() == (
        "Broken fails (ValueError: closing tag '[/]' matches nothing); the study goes on without it"
    )


def test_a_shield_passes_everything_on(tmp_path):
    plain, shielded = (Ledger(StudyFolder(tmp_path / name)) for name in ("plain", "shielded"))
    play(plain)
    play(Shielded(shielded))
    ours, theirs = plain.record(TRIAL.id), shielded.record(TRIAL.id)
    assert (ours.status, ours.failure, ours.metrics, ours.unreliable) == (
        theirs.status,
        theirs.failure,
        theirs.metrics,
        theirs.unreliable,
    )
    assert theirs.failure == Failure("diverged", "loss nan")


def test_a_shield_tells_how_much_there_is_to_those_who_ask():
    told = []

    class Asking(Broken):
        def expect(self, total, remaining):
            told.append((total, remaining))

    Shielded(Asking()).expect(4, 3)
    assert told == [(4, 3)]


def test_what_stops_the_driver_is_not_held_back():
    class Interrupted(Broken):
        def trial_started(self, trial):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Shielded(Interrupted()).trial_started(TRIAL)


def test_a_shield_tells_what_is_waited_for_to_those_who_ask(tmp_path):
    told = []

    class Display(Broken):
        waiting = staticmethod(told.append)

    for shielded in (Shielded(Display()), Shielded(Ledger(StudyFolder(tmp_path)))):
        assert isinstance(shielded, Waiting)
        shielded.waiting("1 GPU")
    assert told == ["1 GPU"]
