"""The public calls of the method."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import advlora
from advlora.adapters import AdaptedModel
from advlora.config import DataConfig
from advlora.data import load_manifest, load_split
from advlora.errors import ConfigError, ModelError

pytestmark = pytest.mark.unit
SMALL = {
    "adapter.rank": 2,
    "adapter.target": "attention-qv",
    "data.train_samples": 32,
    "optimiser.epochs": 1,
    "attack.steps": 1,
}
FEW = {"samples": {"test": 16}, "attacks": [{"steps": 2}]}


@pytest.fixture(scope="module")
def model():
    return advlora.load_model()


@pytest.fixture(scope="module")
def robust() -> AdaptedModel:
    return advlora.adapt(SMALL)


@pytest.fixture(scope="module")
def examples(model):
    """Images `(16, 3, 28, 28)`, their labels, and a caption per class."""
    data = DataConfig()
    split = load_split(data, "test", model.preprocessing, 16)
    return split.images.float() / 255, split.labels, [f"a photo of a {name}" for name in load_manifest(data).classes]


@torch.no_grad()
def right(model, images, labels, texts) -> int:
    texts = torch.nn.functional.normalize(model.encode_texts(texts), dim=-1)
    return int(((model.encode_images(images) @ texts.T).argmax(1) == labels).sum())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_stays_in_its_ball_and_breaks_the_pretrained_model(model, examples, norm):
    images, labels, texts = examples
    epsilon = {"linf": 8 / 255, "l2": 1.0}[norm]
    attacked = advlora.attack(model, images, labels, texts, epsilon=epsilon, norm=norm)
    moved = (attacked - images).flatten(1)
    size = moved.abs().amax(1) if norm == "linf" else moved.norm(dim=1)
    assert float(size.max()) <= epsilon + 1e-6
    assert 0 <= float(attacked.min()) <= float(attacked.max()) <= 1
    assert right(model, attacked, labels, texts) < right(model, images, labels, texts) - 5
    assert torch.equal(attacked, advlora.attack(model, images, labels, texts, epsilon=epsilon, norm=norm))
    assert not torch.equal(attacked, advlora.attack(model, images, labels, texts, epsilon=epsilon, norm=norm, seed=1))


def test_adapting_trains_what_the_settings_say(model, robust, examples):
    assert (robust.config.rank, robust.config.target) == (2, "attention-qv")
    assert (robust.model.encode_images(examples[0]) - model.encode_images(examples[0])).abs().max() > 1e-4
    again = advlora.adapt(SMALL)
    assert torch.equal(again.model.encode_images(examples[0]), robust.model.encode_images(examples[0]))


def test_both_kinds_of_models_are_attacked_and_measured(model, robust, examples):
    assert not torch.equal(advlora.attack(robust, *examples), advlora.attack(model, *examples))
    for each in (model, robust):
        metrics = advlora.evaluate(each, protocol=FEW)
        assert 0 <= metrics["test/robust_r1:8_255"] <= metrics["test/clean_r1"] <= 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: advlora.adapt({"adapter.rnak": 4}), "unknown key 'adapter.rnak'; did you mean 'rank'?"),
        (lambda: advlora.adapt({"adapter.blocks": [0, 99]}), "adapter.blocks: [0, 99] is not a range of the blocks"),
        (lambda: advlora.load_model("tiny-clip", source="timm"), "source: 'timm' is not allowed"),
        (lambda: advlora.load_model("ViT-B-33", "openai"), "open_clip knows no architecture 'ViT-B-33'"),
        (lambda: advlora.evaluate(None, "fashion-mnits"), "fashion-mnits"),
        (lambda: advlora.evaluate(None, protocol={"epsilom": 1}), "unknown key 'protocol.epsilom'"),
    ],
)
def test_wrong_input_is_one_sentence_before_anything_is_computed(call, said):
    with pytest.raises((ConfigError, ModelError)) as caught:
        call()
    assert said in "; ".join(caught.value.problems)


def test_pixels_outside_the_range_are_refused(model, examples):
    images, labels, texts = examples
    with pytest.raises(ValueError, match=r"images in \[0, 1\]"):
        advlora.attack(model, images * 255, labels, texts)


def test_names_are_public_and_cost_nothing_before_they_are_used():
    code = "import sys, advlora, advlora_platform; print(*{'torch', 'ray', 'pandas'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == ""
    assert all(callable(getattr(advlora, name)) for name in advlora.__all__)
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        advlora.train  # noqa: B018
