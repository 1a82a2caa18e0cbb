"""Clean and robust accuracy of a small model that sees linearly."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from advlora.attacks import withstands
from advlora.config import SamplesConfig
from advlora.data import ImageTextSet
from advlora.evaluation.classification import Classification
from advlora.evaluation.zero_shot import ZeroShotClassifier
from advlora.models import VisionLanguageModel
from advlora.randomness import Streams
from advlora.training.cost import evaluation_forwards
from tests.advlora.short_trials import evaluation, evaluation_attack

pytestmark = pytest.mark.unit

COUNT, SIZE, DIM, CLASSES = 60, 8, 6, 4
EPSILON = 6 / 255
WEAK = ({"steps": 1, "step_size": 2e-3}, {"steps": 1, "loss": "margin", "step_size": 2e-3}, {"steps": 1, "norm": "l2"})
"""Each breaks some images that the others do not."""
NOISE = ({"steps": 1, "step_size": 1e-6},)
"""Breaks what its random start breaks."""
ATTACKS = ({"steps": 2}, {"steps": 3, "loss": "margin"}, {"steps": 1, "restarts": 3})


class Linear(VisionLanguageModel):
    """Embeds by a random matrix, and counts the images that pass forwards and backwards."""

    image_size, embed_dim = SIZE, DIM
    encode_texts = save = vision = None

    def __init__(self, blind: bool = False) -> None:
        super().__init__()
        self.logit_scale, self.blind, self.passes = torch.tensor(10.0), blind, 0
        generator = torch.Generator().manual_seed(4)
        self.weight = torch.nn.Parameter(torch.randn(3 * SIZE * SIZE, DIM, generator=generator))

    def encode_images(self, images):
        features = (images - 0.5).flatten(1) * (0 if self.blind else 1) @ self.weight + 0.1 * self.blind
        self.passes += len(images)
        if features.requires_grad and images.requires_grad:
            features.register_hook(self._count)
        return features

    def _count(self, gradient):
        self.passes += len(gradient)


@pytest.fixture
def model():
    return Linear()


@pytest.fixture
def classes():
    return normalize(torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(5)), dim=-1)


@pytest.fixture
def data(model, classes):
    """Every fifth label is wrong."""
    generator = torch.Generator().manual_seed(6)
    images = torch.randint(256, (COUNT, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    labels = (model.encode_images(images.float() / 255) @ classes.T).argmax(1)
    labels[::5] = (labels[::5] + 1) % CLASSES
    return ImageTextSet(images, labels, ("",) * COUNT)


@pytest.fixture
def evaluate(model, classes, data):
    def evaluate(epsilons=(EPSILON,), model=model, **values):
        protocol = evaluation(**{"epsilon": EPSILON, "attacks": ATTACKS[:1], **values})
        return Classification(ZeroShotClassifier(model, classes), protocol).outcomes(data, epsilons)

    return evaluate


def test_an_example_is_clean_where_its_label_is_found(evaluate):
    found = evaluate().clean
    assert found.shape == (COUNT,)
    assert found.dtype == torch.bool
    assert found.tolist() == [position % 5 != 0 for position in range(COUNT)]


def test_robust_is_the_worst_case_over_the_attacks(evaluate, model, classes, data):
    def classify(images):
        return 10 * normalize(model.encode_images(images), dim=-1) @ classes.T

    images, alone = data.images.float() / 255, []
    for number, values in enumerate(WEAK):
        streams = Streams.of(0, "examination", number, samples=torch.arange(COUNT))
        attack = evaluation_attack(**values)
        alone.append(withstands(classify, images, data.labels, attack, EPSILON, streams))
    together = evaluate(attacks=WEAK).robust[EPSILON]
    assert torch.equal(together, alone[0] & alone[1] & alone[2])
    assert 0 < together.sum() < min(each.sum() for each in alone)
    assert len({tuple(each.tolist()) for each in alone}) == len(alone)


def test_a_larger_radius_and_a_further_attack_never_help(evaluate):
    epsilons = (2 / 255, 6 / 255, 16 / 255)
    found = evaluate(epsilons)
    counts = [int(found.clean.sum()), *(int(found.robust[epsilon].sum()) for epsilon in epsilons)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[1] > counts[-1]
    assert all((right <= found.clean).all() for right in found.robust.values())
    assert (evaluate(attacks=ATTACKS).robust[EPSILON] <= evaluate(attacks=ATTACKS[:2]).robust[EPSILON]).all()


def test_a_model_that_does_not_see_is_not_fooled(evaluate, data):
    found = evaluate(model=Linear(blind=True), attacks=ATTACKS, epsilons=(EPSILON, 1.0))
    assert 0 < found.clean.sum() < COUNT
    assert all(torch.equal(right, found.clean) for right in found.robust.values())


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(("attacks", "epsilon"), [(ATTACKS, EPSILON), (NOISE, 0.1)])
def test_outcomes_do_not_depend_on_the_batch_size(evaluate, attacks, epsilon, size):
    ours, theirs = (evaluate((epsilon,), attacks=attacks, batch_size=each) for each in (size, 16))
    assert 0 < theirs.robust[epsilon].sum() < theirs.clean.sum()
    assert torch.equal(ours.clean, theirs.clean)
    assert torch.equal(ours.robust[epsilon], theirs.robust[epsilon])


def test_the_seed_of_the_protocol_names_the_noise(evaluate):
    first, same, other = (evaluate((0.1,), attacks=NOISE, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.robust[0.1], same.robust[0.1])
    assert not torch.equal(first.robust[0.1], other.robust[0.1])


def test_a_radius_asked_for_twice_is_measured_once(evaluate, model):
    evaluate()
    once, model.passes = model.passes, 0
    assert list(evaluate((EPSILON, EPSILON)).robust) == [EPSILON]
    assert model.passes < once  # the fixture's own pass was counted the first time


def test_the_cost_that_is_planned_is_what_an_unbroken_model_costs(evaluate):
    protocol = evaluation(attacks=ATTACKS, epsilon=EPSILON, curve=(0.2, 0.3), samples=SamplesConfig(val=COUNT))
    model = Linear(blind=True)
    found = evaluate((EPSILON, *protocol.curve), model=model, attacks=ATTACKS, batch_size=16)
    wrong = int((~found.clean).sum())
    assert model.passes == evaluation_forwards(protocol, "val") * (COUNT - wrong) / COUNT + wrong


def test_a_further_epsilon_adds_a_number_and_changes_none(evaluate):
    short, full = (evaluate(epsilons).metrics("test") for epsilons in ((EPSILON,), (EPSILON, 12 / 255)))
    assert set(full) == {"test/clean_r1", "test/robust_r1:6_255", "test/robust_r1:12_255"}
    assert short == {name: value for name, value in full.items() if name != "test/robust_r1:12_255"}
    assert full["test/clean_r1"] == pytest.approx(0.8)


def test_every_row_keeps_its_small_type(evaluate):
    found = evaluate()
    assert {found.clean.dtype, found.robust[EPSILON].dtype} == {torch.bool}
    assert {row.dtype for row in found.attacks[EPSILON].values()} == {torch.int8}


def test_parameters_get_no_gradient_and_the_model_is_in_eval_mode(evaluate, model):
    model.train()
    evaluate()
    assert not model.training
    assert model.weight.grad is None
