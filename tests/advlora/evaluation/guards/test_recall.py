"""The checks on retrieval: masked models are flagged, the pretrained one is not."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import pytest

import tests.advlora.evaluation.guards.masked as masked
from advlora.config import DataConfig, EvaluationProtocol, parse
from advlora.evaluation.evaluator import Evaluator
from advlora.evaluation.guards import guard_forwards
from advlora.evaluation.guards.recall import RetrievalSubject
from tests.advlora.evaluation.guards.test_answers import flagged

pytestmark = pytest.mark.unit

COUNT = 16
PROTOCOL = {
    "epsilon": "8/255",
    "attacks": [{"steps": 8, "loss": "margin"}],
    "samples": {"val": COUNT, "test": COUNT},
    "guards": {"samples": COUNT, "queries": 60, "steps": 8, "tolerance": 0.07},
}


@pytest.fixture(scope="module")
def check(bench):
    def check(model, frozen=nullcontext, **values):
        model.encode_texts = getattr(model, "inner", model).encode_texts
        protocol = parse(EvaluationProtocol, PROTOCOL | values)
        evaluator = Evaluator(
            model, DataConfig(name="emoji"), protocol, bench, frozen=frozen, merges=frozen != nullcontext
        )
        return evaluator.guards("test")

    return check


@pytest.mark.parametrize(
    "attacks", [[{"steps": 8, "loss": "margin"}], [{"kind": "apgd", "loss": "margin", "steps": 8, "direction": "both"}]]
)
def test_the_pretrained_model_is_not_flagged(check, plain, attacks):
    findings = check(plain, attacks=attacks)
    assert flagged(findings) == set(), [finding.reason for finding in findings if not finding.ok]
    values = {finding.name: finding.value for finding in findings}
    assert values["clean_at_least_robust"] > 0.3, "nothing was attacked, so that the test says nothing"
    assert "recall at 1 at radius" in " ".join(finding.reason for finding in findings)


@pytest.mark.parametrize(
    ("trick", "attack", "expected"),
    [
        (masked.QuantisedInputs, {}, {"gradients", "large_epsilon"}),
        (masked.SaturatedLogits, {"loss": "cross_entropy"}, {"gradients"}),
        (masked.DetachedEncoder, {"kind": "apgd-ce", "direction": "both"}, {"gradients", "large_epsilon"}),
        (masked.StochasticForward, {}, {"deterministic_forward"}),
        (masked.BackwardGradients, {"direction": "text_to_image"}, {"large_epsilon"}),
    ],
)
def test_a_gallery_that_hides_its_gradients_is_flagged(check, plain, trick, attack, expected):
    findings = check(trick(plain), attacks=[{"steps": 8, **({"loss": "margin"} if not attack else {}), **attack}])
    assert expected <= flagged(findings), {finding.name: finding.reason for finding in findings}


def test_too_little_effort_is_noticed(check, plain):
    assert "more_effort" in flagged(check(plain, attacks=[{"steps": 1, "step_size": 1e-4}]))


def test_merged_weights_have_to_give_the_same_similarities(check, plain):
    def other(factor):
        @contextmanager
        def frozen():
            weight = plain.tower("vision").layers("mlp").popitem()[1].weight
            weight.data *= factor
            yield
            weight.data /= factor

        return frozen

    same = {finding.name: finding for finding in check(plain, frozen=other(1.0))}
    assert same["merged"].ok
    assert "merged" in flagged(check(plain, frozen=other(1.5)))


def test_only_the_queries_that_the_protocol_attacks_are_judged(bench, plain):
    data = bench.split(DataConfig(name="emoji"), "test", plain.preprocessing, COUNT)
    captions = sum(len(own) for own in data.references)

    def counted(*attacks) -> int:
        protocol = parse(EvaluationProtocol, PROTOCOL | {"attacks": list(attacks)})
        return len(RetrievalSubject.of(plain, data, protocol).clean)

    ways = [{"steps": 1, "direction": way} for way in ("image_to_text", "text_to_image", "both")]
    assert [counted(way) for way in ways] == [COUNT, captions, COUNT + captions]
    assert counted({"kind": "set-level", "steps": 1}) == COUNT


def test_the_planned_cost_holds_the_checks_of_retrieval():
    plain = parse(EvaluationProtocol, PROTOCOL)
    both = parse(EvaluationProtocol, PROTOCOL | {"attacks": [{"steps": 8, "direction": "both"}]})
    assert 0 < guard_forwards(plain, None) < guard_forwards(both, None)
