"""Every attack has what it needs to be used: its place in the union, a runner, a label, a cost and a documented row."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import advlora.evaluation.attackers  # noqa: F401 - registers what runs on captions
from advlora.attacks import objective
from advlora.attacks.registry import in_training, on_captions, on_classes
from advlora.config.attack_base import EvaluationAttackConfig, GradientAttack
from advlora.config.caption_attacks import JointAttack
from advlora.config.evaluation_attacks import AnyEvaluationAttack, Noise
from advlora.config.schema import kind_name, kinds, sections
from advlora.config.training_attacks import AnyTrainingAttack, TrainingAttackConfig

pytestmark = pytest.mark.unit

DOCS = Path(__file__).parents[3] / "docs"
EVALUATION = kinds(sections(AnyEvaluationAttack))
TRAINING = kinds(sections(AnyTrainingAttack))


def made(method: type[EvaluationAttackConfig]) -> EvaluationAttackConfig:
    return method(**({"words": "some-bert"} if issubclass(method, JointAttack) else {}))


def methods(base: type) -> set[type]:
    """Returns the classes of the package below a base that stand for one kind."""
    below = {found for child in base.__subclasses__() for found in {child, *methods(child)}}
    return {found for found in below if kind_name(found) is not None and found.__module__.startswith("advlora.")}


def rows(page: str, heading: str) -> dict[str, str]:
    """Returns first cell -> row of the first table below a heading of a page."""
    text = (DOCS / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| `")}


DOCUMENTED = rows("attacks.md", "Attacks of the evaluation") | rows("retrieval.md", "Attacks")
DOCUMENTED_IN_TRAINING = rows("attacks.md", "Attacks of training")


def test_every_class_can_be_named_in_a_configuration():
    assert methods(EvaluationAttackConfig) == set(EVALUATION.values())
    assert methods(TrainingAttackConfig) == set(TRAINING.values())


@pytest.mark.parametrize("kind", EVALUATION)
def test_every_attack_of_the_evaluation_has_a_runner_for_all_that_it_aims_at(kind):
    attack = made(EVALUATION[kind])
    assert attack.aims
    for aim in attack.aims:
        registry = {"classes": on_classes, "captions": on_captions}[aim]
        assert all(type(part) in registry for part in attack.parts())


@pytest.mark.parametrize("kind", TRAINING)
def test_every_attack_of_training_has_a_runner_and_a_label(kind):
    attack = TRAINING[kind]()
    assert type(attack) in in_training
    assert attack.label.startswith(kind)
    assert attack.gradient_steps >= 0


@pytest.mark.parametrize("kind", EVALUATION)
def test_every_attack_of_the_evaluation_has_a_label_and_a_cost(kind):
    attack = made(EVALUATION[kind])
    assert attack.label.startswith(kind)
    assert "L-inf 8/255" in attack.describe(8 / 255)
    assert 0 < attack.forwards(2) <= attack.forwards(100)
    assert math.isfinite(attack.forwards(100))


@pytest.mark.parametrize("kind", [kind for kind in EVALUATION if issubclass(EVALUATION[kind], GradientAttack)])
def test_the_objective_of_every_gradient_attack_is_known(kind):
    logits, labels, targets = torch.randn(4, 5), torch.tensor([0, 1, 2, 3]), torch.tensor([4, 4, 4, 4])
    value = objective(EVALUATION[kind]().objective, logits, labels, targets)
    assert value.shape == (4,)
    assert value.isfinite().all()


@pytest.mark.parametrize("kind", EVALUATION)
def test_every_attack_of_the_evaluation_is_documented_with_its_keys(kind):
    row = DOCUMENTED[f"`{kind}`"]
    assert all(f"`{key}`" in row for key in EVALUATION[kind].model_fields if key not in ("kind", "norm"))


@pytest.mark.parametrize("kind", TRAINING)
def test_every_attack_of_training_is_documented_with_its_keys(kind):
    row = DOCUMENTED_IN_TRAINING[f"`{kind}`"]
    common = {"kind", "norm", "epsilon", "step_size", "random_start", "overfitting"}
    assert all(f"`{key}`" in row for key in TRAINING[kind].model_fields if key not in common)


def test_a_class_without_a_runner_is_refused_by_name():
    class Forgotten(Noise):
        pass

    with pytest.raises(LookupError, match="Forgotten has no runner on classes"):
        on_classes[Forgotten()]
