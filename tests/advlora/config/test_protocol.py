from __future__ import annotations

import pytest

from advlora.config import EvaluationAttackConfig, EvaluationProtocol, parse
from advlora.config.protocol import ATTACK_KINDS, JOINT_KINDS
from advlora.errors import ConfigError
from advlora.metrics import Metric, epsilon_label

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("epsilon", "name"),
    [(8 / 255, "8_255"), (0.5 / 255, "0.5_255"), (64 / 255, "64_255"), (0.03, "0.03"), (0.5, "0.5")],
)
def test_a_strength_has_one_spelling(epsilon, name):
    assert epsilon_label(epsilon) == name


def test_metric_names_pass_the_tracking_rules():
    from mlflow.utils.validation import _validate_metric_name

    for name in (str(Metric.clean("val")), str(Metric.robust("test", 8 / 255)), str(Metric.robust("val", 0.5))):
        _validate_metric_name(name)
    assert str(Metric.robust("val", 8 / 255)) == "val/robust_r1:8_255"


def test_strengths_are_checked_against_the_norm():
    with pytest.raises(ConfigError, match="epsilon 8 is larger"):
        parse(EvaluationProtocol, {"epsilon": 8})
    with pytest.raises(ConfigError, match="epsilon 16 is larger"):
        parse(EvaluationProtocol, {"curve": [16]})
    assert parse(EvaluationProtocol, {"epsilon": 2.0, "attacks": [{"norm": "l2"}]}).epsilon == 2.0


def test_a_protocol_needs_an_attack():
    with pytest.raises(ConfigError, match="attacks"):
        parse(EvaluationProtocol, {"attacks": []})


def attack(**values):
    return parse(EvaluationAttackConfig, values)


def test_an_attack_has_the_standards_of_its_kind():
    assert (attack(kind="apgd-t").loss, attack(kind="apgd-t").targets, attack(kind="apgd-t").steps) == (
        "dlr_targeted",
        9,
        100,
    )
    assert (attack(kind="square").steps, attack(kind="fgsm").steps, attack(kind="mi").source) == (5000, 1, "pretrained")
    assert attack(kind="apgd", loss="dlr_targeted").targets == 9
    assert attack(kind="apgd", loss="margin").targets == 0
    assert attack().kind == "pgd"


@pytest.mark.parametrize("kind", [*ATTACK_KINDS])
def test_what_is_written_out_is_read_back_as_the_same_attack(kind):
    written = attack(kind=kind, **({"words": "some-bert"} if kind in JOINT_KINDS else {}))
    assert attack(**written.model_dump(mode="json")) == written


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "square", "step_size": 0.1}, "kind 'square' does not take step_size; it takes norm, steps, restarts"),
        ({"kind": "apgd-ce", "loss": "margin"}, "does not take loss"),
        ({"kind": "pgd", "targets": 3}, "does not take targets"),
        ({"kind": "fgsm", "steps": 2, "restarts": 3}, "does not take steps, restarts"),
        ({"kind": "pgd", "loss": "dlr_targeted"}, "not targeted; use kind 'apgd-t'"),
        ({"kind": "apgd", "targets": 2}, "targets belong to loss 'dlr_targeted'"),
        ({"kind": "apgd-t", "targets": 0}, "at least 1"),
        ({"kind": "set-level", "words": "some-bert"}, "does not take words; it takes norm, steps, step_size, restarts"),
        ({"kind": "co-attack", "words": "some-bert", "scales": [0.5]}, "does not take scales"),
        ({"kind": "sga"}, "needs words, a masked language model by name or as 'local-dir:PATH'; kind 'set-level'"),
        ({"kind": "autoattak"}, "did you mean 'autoattack'"),
    ],
)
def test_a_key_that_would_have_no_effect_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        parse(EvaluationProtocol, {"attacks": [values]})


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ({"steps": 20, "loss": "margin", "restarts": 3}, "pgd-20 margin x3"),
        ({"kind": "apgd-t"}, "apgd-t-100"),
        ({"kind": "fgsm", "norm": "l2"}, "fgsm l2"),
        ({"kind": "noise"}, "noise x10"),
    ],
)
def test_a_label_says_what_was_done(values, label):
    assert attack(**values).label == label


def test_a_protocol_says_what_its_numbers_mean():
    plain = parse(EvaluationProtocol, {"samples": {"val": 400, "test": 1000}})
    assert plain.describe() == "PGD-10 (cross-entropy, L-inf 8/255), 400 val / 1000 test images"
    several = parse(
        EvaluationProtocol,
        {
            "epsilon": 0.5,
            "attacks": [{"norm": "l2", "steps": 20, "restarts": 3}, {"loss": "margin", "step_size": "2/255"}],
        },
    )
    assert several.describe() == (
        "worst case of PGD-20 with 3 restarts (cross-entropy, L2 0.5) and PGD-10 (margin, L-inf 0.5, step 2/255), "
        "500 val / 1000 test images"
    )


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"kind": "autoattack"}, "AutoAttack (L-inf 8/255)"),
        ({"kind": "autoattack-plus", "norm": "l2"}, "AutoAttack+ (L2 8/255)"),
        ({"kind": "apgd-t"}, "APGD-T-100 (L-inf 8/255)"),
        ({"kind": "square", "steps": 500}, "Square-500 (L-inf 8/255)"),
        ({"kind": "fgsm"}, "FGSM (cross-entropy, L-inf 8/255)"),
        ({"kind": "di"}, "transferred DI-10 (cross-entropy, L-inf 8/255)"),
        ({"kind": "set-level", "restarts": 2}, "set-level PGD-10 with 2 restarts (L-inf 8/255)"),
        ({"kind": "sga", "words": "local-dir:/models/bert"}, "SGA-10 (L-inf 8/255, words of bert)"),
        ({"kind": "co-attack", "words": "google/bert-base"}, "Co-Attack-10 (L-inf 8/255, words of bert-base)"),
        ({"kind": "noise", "restarts": 5}, "noise with 5 restarts (L-inf 8/255)"),
    ],
)
def test_a_description_names_every_kind(values, text):
    assert attack(**values).describe(8 / 255) == text
