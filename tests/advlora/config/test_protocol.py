from __future__ import annotations

import pytest

from advlora.config import EvaluationProtocol, parse
from advlora.config.attack_base import GradientAttack
from advlora.config.caption_attacks import JointAttack
from advlora.config.evaluation_attacks import AnyEvaluationAttack, Apgd, Fgsm, Pgd
from advlora.config.schema import kinds, sections
from advlora.errors import ConfigError
from advlora.metrics import Metric, epsilon_label
from tests.advlora.short_trials import evaluation_attack as attack

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


METHODS = kinds(sections(AnyEvaluationAttack))


def test_an_attack_has_the_standards_of_its_kind():
    assert (attack(kind="apgd-t").targets, attack(kind="apgd-t").steps) == (9, 100)
    assert (attack(kind="square").steps, attack(kind="mi").source) == (5000, "pretrained")
    assert attack(kind="apgd", loss="dlr_targeted").targets == 9
    assert attack(kind="apgd", loss="margin").targets == 0
    assert attack() == Pgd()
    assert parse(EvaluationProtocol, {"attacks": ["fgsm"]}).attacks == (Fgsm(),)


@pytest.mark.parametrize("kind", METHODS)
def test_what_is_written_out_is_read_back_as_the_same_attack(kind):
    written = attack(kind=kind, **({"words": "some-bert"} if issubclass(METHODS[kind], JointAttack) else {}))
    assert type(written) is METHODS[kind]
    assert attack(**written.model_dump(mode="json")) == written


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"kind": "square", "step_size": 0.1},
            r"attacks\.0\.step_size: has no effect with attacks\.0\.kind 'square'; it takes norm, direction, steps",
        ),
        (
            {"kind": "apgd-ce", "loss": "margin"},
            "loss: has no effect with .* it takes norm, steps, restarts, direction",
        ),
        ({"kind": "pgd", "targets": 3}, r"targets: has no effect .* \(kinds that take it: apgd, apgd-t, fab-t\)"),
        ({"kind": "fgsm", "steps": 1}, "it takes norm, loss"),
        ({"kind": "noise", "epsilon": 1}, "unknown key 'attacks.0.epsilon'"),
        ({"kind": "pgd", "loss": "dlr_targeted"}, "loss: 'dlr_targeted' is not allowed; allowed: 'cross_entropy',"),
        ({"kind": "apgd", "targets": 2}, "targets belong to loss 'dlr_targeted'"),
        ({"kind": "apgd", "loss": "dlr_targeted", "targets": 0}, "targets belong to loss 'dlr_targeted'"),
        ({"kind": "apgd-t", "targets": 0}, "greater than or equal to 1"),
        ({"kind": "set-level", "words": "some-bert"}, "it takes norm, steps, step_size, restarts, scales"),
        ({"kind": "co-attack", "words": "some-bert", "scales": [0.5]}, "scales: has no effect .* 'co-attack'"),
        ({"kind": "sga"}, "words is required: a masked language model .* kind 'set-level'"),
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


GUIDED = [method for method in METHODS.values() if issubclass(method, GradientAttack)]


@pytest.mark.parametrize("method", GUIDED)
def test_a_weakened_attack_costs_less_and_a_strengthened_one_more(method):
    plain = method(norm="l2")
    weak, strong = plain.weakened(3), plain.strengthened()
    assert {weak.norm, strong.norm} == {"l2"}
    assert {weak.objective, strong.objective} == {plain.objective}
    assert weak.repeats == 1
    assert weak.target_count <= 1
    assert strong.target_count <= 3
    assert weak.forwards(4) <= plain.forwards(4) < strong.forwards(4)


def test_a_strengthened_attack_takes_the_standard_step():
    assert Pgd(steps=30, step_size=0.1, loss="margin").strengthened() == Pgd(steps=60, restarts=2, loss="margin")
    assert Fgsm(loss="margin").strengthened() == Pgd(steps=20, restarts=2, loss="margin")
    assert Apgd(loss="dlr_targeted", steps=150).strengthened() == Apgd(loss="dlr_targeted", steps=200, targets=3)


def test_only_attacks_that_so_few_classes_allow_are_named():
    both = parse(EvaluationProtocol, {"attacks": ["apgd-ce", "apgd-t"]})
    assert both.describe(2) == "APGD-CE-100 (L-inf 8/255), 500 val / 1000 test images"
    assert (
        both.describe(3)
        == both.describe()
        == f"worst case of {both.attacks[0].describe(8 / 255)} and "
        + ("APGD-T-100 (L-inf 8/255), 500 val / 1000 test images")
    )
    parts = parse(EvaluationProtocol, {"attacks": ["autoattack"]})
    assert parts.describe(2).startswith("AutoAttack (L-inf 8/255) without APGD-T, ")
    assert "without" not in parts.describe(10)
