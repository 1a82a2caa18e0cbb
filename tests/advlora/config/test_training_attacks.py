from __future__ import annotations

import pytest

from advlora.config import TrialConfig, parse, vary
from advlora.config.training_attacks import FgsmRs, NFgsm, NoAttack, TrainingAttackConfig, TrainPgd, Universal
from advlora.errors import ConfigError

pytestmark = pytest.mark.unit

EPSILON = 0.05


def attack(**values):
    return parse(TrialConfig, {"attack": values}).attack


def problems(**values):
    with pytest.raises(ConfigError) as caught:
        attack(**values)
    return caught.value.problems


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "fgsm_rs", "steps": 2}, "attack.steps: has no effect with attack.kind 'fgsm_rs'; it takes norm,"),
        ({"kind": "none", "epsilon": 0.1}, "attack.epsilon: has no effect with attack.kind 'none'; it takes no keys"),
        ({"kind": "pdg"}, "attack.kind: 'pdg' is not allowed; .* did you mean 'pgd'"),
        ({"steps": 2, "overfitting": {"action": "stop"}}, "only one-step attacks are watched, and pgd-2 is none"),
        ({"kind": "universal", "overfitting": {"enabled": False}}, "and universal-2 is none; leave it out"),
        ({"kind": "fgsm_rs", "overfitting": {"enabled": False, "steps": 5}}, "steps has no effect; leave it out"),
        ({"kind": "fgsm_rs", "overfitting": {"check": False}}, "write attack.overfitting.enabled"),
        ({"kind": "n_fgsm", "epsilon": 8}, "epsilon 8 is larger than the whole pixel range"),
    ],
)
def test_a_key_that_would_have_no_effect_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        attack(**values)


def test_a_base_class_is_no_attack():
    with pytest.raises(TypeError, match="abstract"):
        TrainingAttackConfig(kind="pgd")


def test_another_method_leaves_behind_what_it_does_not_take():
    base = {"attack": {"kind": "pgd", "steps": 3, "norm": "l2", "epsilon": 0.5}}
    assert vary(TrialConfig, base, {"attack": "none"})["attack"] == {"kind": "none"}
    changed = parse(TrialConfig, vary(TrialConfig, base, {"attack.kind": "fgsm_rs"}))
    assert changed.attack == FgsmRs(norm="l2", epsilon=0.5)


@pytest.mark.parametrize(
    ("config", "size", "gradients"),
    [
        (TrainPgd(epsilon=EPSILON, steps=2), 1.0, 2),
        (TrainPgd(epsilon=EPSILON, steps=10), 0.25, 10),
        (Universal(epsilon=EPSILON, steps=10), 0.25, 10),
        (FgsmRs(epsilon=EPSILON), 1.25, 1),
        (NFgsm(epsilon=EPSILON), 1.0, 1),
    ],
    ids=lambda value: getattr(value, "label", value),
)
def test_the_standard_step_and_the_gradients_are_those_of_the_method(config, size, gradients):
    assert config.step_size_in_force == pytest.approx(size * EPSILON)
    assert config.model_copy(update={"step_size": 0.01}).step_size_in_force == 0.01
    assert config.gradient_steps == gradients
    assert config.adversarial
    assert not NoAttack().adversarial


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (FgsmRs(), True),
        (NFgsm(), True),
        (TrainPgd(steps=1), True),
        (TrainPgd(steps=2), False),
        (NoAttack(), False),
        (FgsmRs(overfitting={"enabled": False}), False),
        (FgsmRs(epsilon=0.0), False),
    ],
    ids=repr,
)
def test_only_one_step_attacks_are_watched(config, expected):
    assert config.watched is (config if expected else None)


@pytest.mark.parametrize("kind", [FgsmRs, NFgsm, TrainPgd])
def test_the_attack_after_a_switch_has_several_steps_of_the_standard_length(kind):
    one = {"steps": 1} if kind is TrainPgd else {}
    before = kind(epsilon=0.3, norm="l2", random_start=False, step_size=1e-4, **one)
    assert before.switched() == TrainPgd(epsilon=0.3, norm="l2", random_start=False, steps=2)


@pytest.mark.parametrize("kind", ["pgd", "fgsm_rs", "n_fgsm", "universal"])
def test_trades_needs_a_random_start(kind):
    values = {"loss": {"kind": "trades"}, "attack": {"kind": kind, "random_start": False}}
    with pytest.raises(ConfigError, match="TRADES has no gradient at the clean image"):
        parse(TrialConfig, values)
