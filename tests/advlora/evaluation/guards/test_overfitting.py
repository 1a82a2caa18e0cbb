"""Catastrophic overfitting: found, and acted upon; a continued training gives the numbers of an uninterrupted one.

A training step of next to no length stands for an attack that the model has learnt to break: nothing is harmed by it,
everything by several steps.
"""

from __future__ import annotations

import pytest
import torch

from advlora.config import EvaluationProtocol, TrialConfig, parse, vary, with_values
from advlora.evaluation.guards import OverfittingFinding
from advlora.training.trainer import fine_tune

pytestmark = pytest.mark.unit

SHORT = {
    "data.train_samples": 48,
    "optimiser": {"batch_size": 16, "epochs": 3, "learning_rate": 1e-4},
    "adapter": {"kind": "lora", "rank": 2, "target": "attention-qv"},
    "attack": {"kind": "fgsm_rs", "epsilon": "8/255", "step_size": 1e-4},
    "attack.overfitting": {"samples": 48, "steps": 5, "drop": 0.6},  # 0.71 vanish, an image more or less
}
PROTOCOL = parse(
    EvaluationProtocol,
    {
        "attacks": [{"steps": 2}],
        "samples": {"val": 16, "test": 16},
        "interval": 0,
        "batch_size": 48,
        "guards": {"enabled": False},
    },
)
MEASURED = {"cost/seconds", "cost/peak_memory_mb"}


@pytest.fixture(scope="module")
def train(bench):
    def train(state=None, **values):
        return list(fine_tune(config(**values), PROTOCOL, bench=bench, state=state))

    return train


def config(**values):
    return parse(TrialConfig, vary(TrialConfig, with_values({}, SHORT), values))


def numbers(report):
    return {name: value for name, value in report.metrics.items() if name not in MEASURED}


def test_the_verdict_needs_a_gap_that_is_large_and_most_of_the_accuracy():
    assert OverfittingFinding(0.8, 0.1, drop=0.7).overfitted
    assert not OverfittingFinding(0.8, 0.4, drop=0.7).overfitted
    assert not OverfittingFinding(0.05, 0.0, drop=0.7).overfitted
    assert OverfittingFinding(0.8, 0.1, drop=0.7).metrics() == {
        "guard/overfitting_gap": pytest.approx(0.7),
        "guard/overfitting": 1.0,
    }


def test_overfitting_is_logged_after_every_epoch_and_changes_nothing(train):
    watching, blind = train(), train(**{"attack.overfitting.enabled": False})
    assert [report.metrics["guard/overfitting"] for report in watching] == [1.0, 1.0, 1.0]
    assert all(report.metrics["guard/overfitting_gap"] > 0.3 for report in watching)
    for one, other in zip(watching, blind, strict=True):
        assert {name: value for name, value in numbers(one).items() if "guard" not in name} == numbers(other)


def test_an_honest_attack_raises_no_flag(train):
    reports = train(**{"attack.step_size": None})
    assert [report.metrics["guard/overfitting"] for report in reports] == [0.0, 0.0, 0.0]


def test_switch_goes_on_with_pgd_from_the_next_epoch(train):
    reports, plain = train(**{"attack.overfitting.action": "switch"}), train()
    assert reports[0].metrics["train/loss"] == plain[0].metrics["train/loss"]
    assert reports[1].metrics["train/loss"] > 2 * plain[1].metrics["train/loss"]
    assert [report.metrics["guard/overfitting"] for report in reports] == [1.0, 1.0, 1.0]
    assert ["guard/overfitting_gap" in report.metrics for report in reports] == [True, False, False]
    forwards = [report.metrics["cost/vision_forwards"] for report in reports]
    assert forwards == [48 * 4, 48 * (4 + 6), 48 * (4 + 6 + 6)]


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_switched_training_continues_as_if_uninterrupted(train, epoch):
    values = {"attack.overfitting.action": "switch"}
    whole = train(**values)
    rest = train(state=whole[epoch].state, **values)
    assert [numbers(report) for report in rest] == [numbers(report) for report in whole[epoch + 1 :]]


def test_stop_in_the_first_epoch_ends_with_the_untrained_model(train):
    (only,) = train(**{"attack.overfitting.action": "stop"})
    assert (only.epoch, only.final) == (0, True)
    assert only.metrics["guard/overfitting"] == 1.0
    assert {"val/clean_r1", "val/robust_r1:8_255"} <= set(only.metrics)
    assert "train/loss" not in only.metrics
    assert only.metrics["cost/vision_forwards"] == 48 * 4


def test_stop_after_a_good_epoch_returns_its_weights(train):
    settings = {"attack.overfitting.action": "stop"}
    good = train(**{"attack.overfitting.enabled": False})[0]
    last = train(state=good.state, **settings)
    assert [(report.epoch, report.final) for report in last] == [(1, True)]
    for name, tensor in good.state["adapter"].items():
        if isinstance(tensor, torch.Tensor):
            assert torch.equal(tensor, last[0].state["adapter"][name])
    again = train(state=last[0].state, **settings)
    assert [numbers(report) for report in again] == [numbers(last[0])]
