"""Masked models are flagged, honest ones are not."""

from __future__ import annotations

import copy

import pytest

import tests.advlora.evaluation.guards.masked as masked
from advlora.config import EvaluationProtocol, parse
from advlora.evaluation.guards import GuardFinding, guard_forwards, guard_metrics, unreliable

pytestmark = pytest.mark.unit


def failed(findings):
    return {name for name, finding in findings.items() if not finding.ok}


@pytest.mark.parametrize(
    "attacks", [[{"steps": 10}], [{"steps": 10, "loss": "margin"}], [{"kind": "apgd-t", "steps": 10}]], ids=str
)
def test_the_pretrained_model_is_not_flagged(guard, plain, attacks):
    assert failed(guard(plain, surrogate=plain, attacks=attacks)) == set()


@pytest.mark.parametrize("attacks", [[{"steps": 10}], [{"kind": "apgd-ce", "steps": 20}]], ids=str)
def test_a_robust_model_is_not_flagged(guard, robust, plain, attacks):
    findings = guard(robust, surrogate=plain, merged=copy.deepcopy(robust), attacks=attacks)
    assert failed(findings) == set()
    assert findings["clean_at_least_robust"].value < 0.4, "the model is not robust, so that the test says nothing"
    assert {"transfer", "merged"} <= set(findings)


@pytest.mark.parametrize(
    ("trick", "expected"),
    [
        (masked.QuantisedInputs, {"gradients", "black_box", "large_epsilon", "transfer"}),
        (masked.SaturatedLogits, {"gradients", "black_box", "large_epsilon"}),
        (masked.StochasticForward, {"deterministic_forward"}),
        (masked.DetachedEncoder, {"gradients", "black_box", "large_epsilon", "transfer"}),
        (masked.SteepPixels, {"transfer"}),
        (masked.ShatteredGradients, {"black_box", "transfer"}),
        (masked.BackwardGradients, {"black_box", "large_epsilon", "transfer"}),
    ],
)
def test_a_masked_model_seems_more_robust_than_it_is_and_is_flagged(guard, plain, trick, expected):
    findings = guard(trick(plain), surrogate=plain)
    assert expected <= failed(findings), {name: finding.reason for name, finding in findings.items()}
    if trick is not masked.StochasticForward:
        assert findings["clean_at_least_robust"].value < 0.7, "every attack sees through the trick"


def test_saturated_cross_entropy_is_harmless_where_the_protocol_has_the_margin_too(guard, plain):
    both = guard(
        masked.SaturatedLogits(plain), surrogate=plain, attacks=[{"steps": 10}, {"steps": 10, "loss": "margin"}]
    )
    assert failed(both) == set()


def test_one_step_is_too_little_for_a_robust_number(guard, plain):
    findings = guard(plain, attacks=[{"kind": "pgd", "steps": 1, "step_size": 1e-4}])
    assert "more_effort" in failed(findings)


def test_other_weights_than_those_measured_are_flagged(guard, robust, plain):
    findings = guard(plain, merged=robust)
    assert failed(findings) == {"merged"}


def test_findings_become_metrics_and_one_reason():
    good = GuardFinding("monotone", True, -0.1, "fine")
    bad = GuardFinding("black_box", False, 0.3, "Square breaks 30 %")
    assert guard_metrics([good, bad]) == {"guard/monotone": -0.1, "guard/black_box": 0.3, "guard/unreliable": 1.0}
    assert unreliable([good, bad]) == "black_box: Square breaks 30 %"
    assert unreliable([good]) is None


def test_the_planned_cost_grows_with_the_samples_and_is_nothing_without_guards():
    few, many = (parse(EvaluationProtocol, {"guards": {"samples": samples}}) for samples in (10, 20))
    assert 0 < guard_forwards(few) == guard_forwards(many) / 2
    assert guard_forwards(parse(EvaluationProtocol, {"guards": {"enabled": False}})) == 0
