from __future__ import annotations

import pytest

from advlora.training.progress import Progress
from tests.advlora.short_trials import trial

pytestmark = pytest.mark.unit


def test_a_trial_is_finished_after_its_last_epoch_or_once_it_is_stopped():
    progress = Progress.of(trial({"optimiser.epochs": 2}), None)
    seen = [progress, progress.trained(0.5), progress.trained(0.5).trained(0.4)]
    assert [each.finished for each in seen] == [False, False, True]
    assert Progress(epochs=2, stopped=True).finished
    assert Progress.of(trial({"adapter.kind": "none"}), None).finished


def test_the_latest_values_stay_and_a_gap_belongs_to_its_epoch():
    first = Progress(epochs=3).trained(0.5).measured({"guard/overfitting_gap": 0.4, "guard/overfitting": 1.0})
    second = first.trained(0.3).measured({"val/clean_r1": 0.9})
    assert first.metrics == {"train/loss": 0.5, "guard/overfitting_gap": 0.4, "guard/overfitting": 1.0}
    assert second.metrics == {"train/loss": 0.3, "guard/overfitting": 1.0, "val/clean_r1": 0.9}
    assert (first.epoch, second.epoch) == (1, 2)


def test_a_state_gives_the_progress_back():
    config = trial({"optimiser.epochs": 3})
    progress = Progress(3, 2, {"train/loss": 0.5}, switched=True)
    assert Progress.of(config, {"adapter": {}, **progress.state()}) == progress
