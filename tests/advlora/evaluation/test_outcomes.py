"""What is known per example, per attack and per epsilon."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn.functional import normalize

from advlora.config import EvaluationProtocol, parse
from advlora.data import ImageTextSet
from advlora.evaluation.classification import Classification
from advlora.evaluation.outcomes import BROKEN, SPARED, WITHSTOOD, Outcomes
from advlora.evaluation.zero_shot import ZeroShotClassifier
from advlora.models import VisionLanguageModel
from tests.advlora.short_trials import evaluation_attack

pytestmark = pytest.mark.unit

COUNT, SIZE, CLASSES, EPSILON = 60, 8, 5, 4 / 255
ATTACKS = [{"steps": 1, "step_size": 3e-3}, {"kind": "apgd-t", "steps": 5}, {"kind": "square", "steps": 40}]
NAMES = ["pgd-1", "apgd-t-5", "square-40"]


class Small(VisionLanguageModel):
    """Two layers; counts the images that pass forwards and backwards."""

    image_size, embed_dim = SIZE, 16
    encode_texts = save = vision = None

    def __init__(self, seed=0, stuck=False):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.logit_scale, self.stuck, self.passes = torch.tensor(10.0), stuck, 0
        self.first, self.second = torch.randn(192, 24, generator=generator), torch.randn(24, 16, generator=generator)

    def encode_images(self, images):
        features = torch.tanh((images - 0.5).flatten(1) @ self.first * (0 if self.stuck else 0.3)) @ self.second
        features = features + (1 if self.stuck else 0)
        self.passes += len(images)
        if features.requires_grad:
            features.register_hook(self._count)
        return features

    def _count(self, gradient):
        self.passes += len(gradient)


@pytest.fixture
def classes():
    return normalize(torch.randn(CLASSES, 16, generator=torch.Generator().manual_seed(5)), dim=-1)


@pytest.fixture
def data(classes):
    """Every fifth label is wrong."""
    images = torch.randint(256, (COUNT, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(6), dtype=torch.uint8)
    labels = (Small().encode_images(images.float() / 255) @ classes.T).argmax(1)
    labels[::5] = (labels[::5] + 1) % CLASSES
    return ImageTextSet(images, labels, ("",) * COUNT)


@pytest.fixture
def evaluate(classes, data):
    def evaluate(epsilons=(EPSILON,), model=None, exhaustive=False, surrogate=None, **values):
        protocol = parse(EvaluationProtocol, {"epsilon": EPSILON, "attacks": ATTACKS, "batch_size": 16, **values})
        other = None if surrogate is None else ZeroShotClassifier(surrogate, classes)
        classifier = ZeroShotClassifier(model or Small(), classes)
        return Classification(classifier, protocol, other, exhaustive=exhaustive).outcomes(data, epsilons)

    return evaluate


def test_an_example_that_is_broken_is_spared_by_the_attacks_that_follow(evaluate):
    found = evaluate()
    first, second, third = found.attacks[EPSILON].values()
    assert list(found.attacks[EPSILON]) == NAMES
    assert torch.equal(first == SPARED, ~found.clean)
    assert torch.equal(second == SPARED, first != WITHSTOOD)
    assert torch.equal(third == SPARED, second != WITHSTOOD)
    assert torch.equal(found.robust[EPSILON], third == WITHSTOOD)
    assert all((row == BROKEN).any() for row in (first, second))


def test_exhaustive_examination_gives_every_attack_all_examples_and_the_same_worst_case(evaluate):
    found, brief = evaluate(exhaustive=True), evaluate()
    assert all(torch.equal(row != SPARED, found.clean) for row in found.attacks[EPSILON].values())
    assert torch.equal(found.robust[EPSILON], brief.robust[EPSILON])
    alone = [row == WITHSTOOD for row in found.attacks[EPSILON].values()]
    assert torch.equal(found.robust[EPSILON], alone[0] & alone[1] & alone[2])


def test_accuracies_are_cumulative_where_examples_were_spared(evaluate):
    brief, whole = evaluate().accuracies(EPSILON), evaluate(exhaustive=True).accuracies(EPSILON)
    assert list(brief) == NAMES
    assert brief["pgd-1"] == whole["pgd-1"] > brief["apgd-t-5"] >= brief["square-40"]
    assert whole["square-40"] > brief["square-40"]
    assert brief["square-40"] == pytest.approx(evaluate().robust[EPSILON].double().mean().item())


def test_what_is_broken_at_a_smaller_radius_is_not_attacked_at_a_larger_one(evaluate):
    epsilons = (2 / 255, EPSILON, 6 / 255)
    found = evaluate(epsilons)
    fallen = found.clean & ~found.robust[EPSILON]
    assert fallen.any()
    assert (found.attacks[6 / 255]["pgd-1"][fallen] == SPARED).all()
    assert not found.robust[6 / 255][fallen].any()
    assert (found.robust[6 / 255] <= found.robust[2 / 255]).all()


def test_the_main_number_does_not_depend_on_the_curve(evaluate):
    curved, plain = evaluate((2 / 255, EPSILON)), evaluate()
    assert torch.equal(curved.robust[EPSILON], plain.robust[EPSILON])
    assert torch.equal(curved.attacks[EPSILON]["pgd-1"], plain.attacks[EPSILON]["pgd-1"])
    assert torch.equal(curved.attacks[EPSILON]["pgd-1"] == SPARED, ~plain.clean)
    assert (plain.clean & ~curved.robust[2 / 255]).any()


def test_a_curve_costs_less_than_its_strengths_apart(evaluate):
    together, apart = Small(), Small()
    evaluate((EPSILON, 6 / 255, 12 / 255), model=together)
    for epsilon in (EPSILON, 6 / 255, 12 / 255):
        evaluate((epsilon,), model=apart)
    assert together.passes < 0.8 * apart.passes


def test_results_do_not_depend_on_the_batch_size(evaluate):
    kinds = [{"kind": kind, "steps": 6} for kind in ("apgd-ce", "fab-t", "square", "di")]
    one, other = (evaluate(attacks=kinds, batch_size=size, surrogate=Small(1)) for size in (7, 60))
    assert one.record() == other.record()


def test_the_record_is_plain_data_with_a_character_per_example(evaluate):
    found = evaluate((EPSILON, 6 / 255))
    record = json.loads(json.dumps(found.record()))
    assert set(record["attacks"]) == {"4_255", "6_255"}
    assert [digit == "1" for digit in record["clean"]] == found.clean.tolist()
    values = [{"1": WITHSTOOD, "0": BROKEN, "-": SPARED}[digit] for digit in record["attacks"]["4_255"]["square-40"]]
    assert values == found.attacks[EPSILON]["square-40"].tolist()
    assert record["accuracies"]["4_255"] == found.accuracies(EPSILON)


def test_outcomes_without_attacks_are_still_accuracies():
    assert Outcomes(torch.tensor([True, False]), {}).metrics("val") == {"val/clean_r1": 0.5}
    rows = Outcomes(torch.tensor([True, True, False]), {0.5: torch.tensor([True, False, False])}).metrics("val")
    assert rows == {"val/clean_r1": 2 / 3, "val/robust_r1:0.5": 1 / 3}


def test_a_transfer_attack_without_a_surrogate_is_an_error_and_with_one_it_is_weaker(evaluate):
    with pytest.raises(ValueError, match="surrogate"):
        evaluate(attacks=[{"kind": "mi"}])
    own, other = (evaluate(attacks=[{"kind": "mi"}], surrogate=Small(seed)) for seed in (0, 3))
    assert own.robust[EPSILON].sum() < other.robust[EPSILON].sum()


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "fgsm"},
        {"steps": 3, "restarts": 2},
        {"kind": "apgd-ce", "steps": 4, "restarts": 2},
        {"kind": "apgd-t", "steps": 3},
        {"kind": "apgd-t", "steps": 3, "targets": 2},
        {"kind": "fab", "steps": 3},
        {"kind": "fab-t", "steps": 3, "restarts": 2},
        {"kind": "square", "steps": 9, "restarts": 2},
        {"kind": "noise"},
        {"kind": "di", "steps": 3, "source": "model"},
    ],
    ids=str,
)
def test_the_planned_cost_is_what_an_unbroken_model_costs(evaluate, data, values):
    model, epsilon = Small(stuck=True), 1e-6
    found = evaluate((epsilon,), model=model, attacks=[values], epsilon=epsilon)
    facing = int(found.clean.sum())
    assert int(found.robust[epsilon].sum()) == facing > 0
    assert model.passes == COUNT + facing * evaluation_attack(**values).forwards(CLASSES)


def test_the_mean_per_class_weighs_every_class_that_is_there_alike():
    right = torch.tensor([True, True, True, False, False, True])
    broken = torch.tensor([True, False, False, False, False, False])
    labels = torch.tensor([0, 0, 0, 0, 2, 2])  # no example of class 1
    found = Outcomes(right, {EPSILON: broken}).mean_per_class("test", labels)
    assert found == {
        "test/clean_mean_per_class": pytest.approx((3 / 4 + 1 / 2) / 2),
        "test/robust_mean_per_class:4_255": pytest.approx((1 / 4 + 0) / 2),
    }
    assert Outcomes(right, {}).metrics("test") == {"test/clean_r1": pytest.approx(4 / 6)}
