"""What is not finite ends a measurement, whatever the task: no number comes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from advlora.attacks import Threat, Watched, withstands
from advlora.config import DataConfig, ModelConfig
from advlora.config.evaluation_attacks import Pgd
from advlora.config.poison import BadNetsConfig
from advlora.errors import ModelError, NotFinite
from advlora.evaluation.backdoor import attack_success_rate
from advlora.evaluation.evaluator import Evaluator
from advlora.evaluation.reranking import matching
from advlora.evaluation.zero_shot import ZeroShotClassifier
from advlora.models import Preprocessing, load_model
from advlora.randomness import Streams
from tests.advlora.evaluation.guards.masked import Masked
from tests.advlora.short_trials import evaluation, evaluation_attack

pytestmark = pytest.mark.unit

STREAMS = Streams.of(0, "test", samples=torch.arange(3))
FASHION, EMOJI = DataConfig(), DataConfig(name="emoji")
SMALL = {
    "attacks": [{"steps": 1}],
    "curve": [],
    "samples": {"val": 6, "test": 6},
    "guards": {"samples": 6, "queries": 2, "steps": 1},
}


def damaged(model, tower: str):
    """A model with one weight of a tower that is not a number."""
    weight = next(iter(model.tower(tower).parameters().values()))
    with torch.no_grad():
        weight.view(-1)[0] = torch.nan
    return model


class _NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(context, images):
        return images.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * torch.nan


class NoGradient(Masked):
    """Gives features that are finite, and a gradient that is not a number."""

    def __init__(self, inner):
        super().__init__(inner)
        self.encode_texts = inner.encode_texts

    def encode_images(self, images):
        return super().encode_images(_NoGradient.apply(images))


@pytest.fixture(scope="module")
def evaluator(bench):
    def evaluator(model, data=FASHION, **values) -> Evaluator:
        return Evaluator(model, data, evaluation(**SMALL | values), bench, base=ModelConfig(), changed=False)

    return evaluator


@pytest.mark.parametrize("data", [FASHION, EMOJI], ids=lambda data: data.name)
@pytest.mark.parametrize("tower", ["vision", "text"])
def test_a_weight_that_is_not_a_number_ends_the_measurement_in_one_sentence(evaluator, bench, data, tower):
    with pytest.raises(NotFinite, match="are not finite") as caught:
        evaluator(damaged(bench.model(ModelConfig()), tower), data).measure("test", curve=False)
    assert isinstance(caught.value, ModelError)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("data", [FASHION, EMOJI], ids=lambda data: data.name)
def test_the_checks_end_as_the_measurement_does(evaluator, bench, data):
    sound = evaluator(bench.model(ModelConfig()), data)
    known = sound.measure("test", curve=False).outcomes
    with pytest.raises(NotFinite):
        replace(sound, model=damaged(bench.model(ModelConfig()), "vision")).guards("test", known)


def test_a_backdoor_is_not_measured_on_a_damaged_model(bench):
    classifier = ZeroShotClassifier(
        damaged(bench.model(ModelConfig()), "vision"), bench.class_features(ModelConfig(), FASHION)
    )
    poison = BadNetsConfig(target="bag", rate=0.1)
    with pytest.raises(NotFinite, match="logits"):
        attack_success_rate(classifier, bench.split(FASHION, "test", Preprocessing(28), 6), poison, 8, batch_size=6)


def test_a_matching_score_that_is_not_a_number_is_refused(tiny):
    blip = load_model(tiny("blip"))
    blip.match = lambda tokens, captions: torch.full((len(captions), 2), torch.nan)
    with pytest.raises(NotFinite, match="matching scores"):
        matching(blip, {0: torch.rand(3, 16, 16)}, ["a cat"], torch.ones(1, 1, dtype=torch.bool))


ATTACKS = [
    {"kind": "apgd-ce", "steps": 2},
    {"steps": 2, "direction": "text_to_image"},
    {"kind": "set-level", "steps": 2},
]


@pytest.mark.parametrize(
    ("data", "attack"), [(FASHION, {"steps": 2}), *((EMOJI, attack) for attack in ATTACKS)], ids=str
)
def test_a_gradient_that_is_not_a_number_breaks_no_image_but_the_measurement(evaluator, bench, data, attack):
    model = NoGradient(bench.model(ModelConfig()))
    with pytest.raises(NotFinite, match="gradients"):
        evaluator(model, data, attacks=[attack]).measure("test", curve=False)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_step_along_what_is_not_a_number_leaves_an_image_as_it_is(norm):
    images, threat = torch.rand(2, 3, 4, 4), Threat(norm, 0.1)
    moved = threat.project(images + 0.1 * threat.direction(torch.full_like(images, torch.nan)), images)
    assert torch.equal(moved, images)


def test_logits_that_only_an_attack_spoils_are_noticed_too():
    images, labels = torch.full((3, 3, 2, 2), 0.5), torch.tensor([0, 1, 0])

    def logits(points):
        moved = (points - images[: len(points)]).abs().sum((1, 2, 3))
        right = torch.nn.functional.one_hot(labels[: len(points)], 2) * 4.0
        return right + torch.where(moved > 0, torch.nan, 0.0)[:, None] * points.mean()

    with pytest.raises(NotFinite, match="logits"):
        withstands(logits, images, labels, Pgd(steps=2), 0.1, STREAMS)


@pytest.mark.parametrize("kind", ["square", "fab", "di", "apgd-t", "noise"])
def test_every_family_of_attacks_notices(kind):
    images, labels = torch.rand(2, 3, 4, 4), torch.tensor([0, 1])

    def logits(points):
        return torch.full((len(points), 4), torch.nan) + 0 * points.mean()

    few = {"steps": 2} if kind != "noise" else {}
    with pytest.raises(NotFinite):
        withstands(logits, images, labels, evaluation_attack(kind=kind, **few), 0.1, STREAMS[torch.arange(2)])


def test_a_sound_function_passes_unchanged():
    watched, points = Watched(lambda images: images.flatten(1)), torch.rand(2, 3, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(watched(points).sum(), points)
    assert torch.equal(gradient, torch.ones_like(points))
    watched.check()
