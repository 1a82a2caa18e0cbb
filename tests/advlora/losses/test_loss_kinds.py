from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, kl_div, log_softmax, normalize

from advlora.adapters import AdaptedModel, adapt
from advlora.config import EvaluationProtocol, TrialConfig, leaves, parse, vary
from advlora.data import ImageTextSet
from advlora.errors import ConfigError, ModelError
from advlora.losses import Encoder, Step, build_loss
from advlora.losses.captions import CaptionTable, Contrastive, Matching
from advlora.losses.classes import ClassCrossEntropy, PretrainedGuided, Trades
from advlora.models import load_model
from advlora.training.trainer import fine_tune
from advlora.training.workbench import Workbench
from tests.advlora.short_trials import adapter

pytestmark = pytest.mark.unit

CAPTIONS = ("a photo of a cat", "the red boot", "a dog", "the dress on a dog")


@pytest.fixture
def made(tiny):
    def made(family: str = "clip", **values) -> AdaptedModel:
        return adapt(
            load_model(tiny(family)), adapter(**values), 0, keep_originals=True
        )  # fmt: skip

    return made


def perturb(adapted: AdaptedModel) -> None:
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=source)


def step(size: int = 4) -> Step:
    images = torch.rand(size, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    return Step(images, torch.arange(size), torch.arange(size))


def classes(adapted: AdaptedModel, count: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    features = normalize(torch.randn(count, adapted.model.embed_dim, generator=torch.Generator().manual_seed(3)), dim=1)
    return features, torch.tensor([0, 1, 2, 0]), adapted.model.logit_scale


def kl(of: Tensor, other: Tensor) -> Tensor:
    return kl_div(log_softmax(other, 1), of.softmax(1), reduction="none").sum(1)


def test_trades_is_the_formula(made) -> None:
    adapted, now = made(), step()
    features, labels, scale = classes(adapted)
    loss, encoder = Trades(features, labels, scale, None, beta=3.0), Encoder(adapted, bf16=False)
    attacked = (now.clean + 0.1).clamp(0, 1)

    def logits(images: Tensor) -> Tensor:
        return scale * normalize(adapted.model.encode_images(images), dim=-1) @ features.T

    loss.prepare(encoder, now, update=False)
    assert not loss.clean.requires_grad
    expected = kl(logits(now.clean), logits(attacked))
    torch.testing.assert_close(loss.attacked(encoder, attacked, now), expected, atol=1e-5, rtol=1e-3)
    loss.prepare(encoder, now, update=True)
    expected = cross_entropy(logits(now.clean), labels, reduction="none") + 3 * expected
    objective = loss.objective(encoder, attacked, now)
    torch.testing.assert_close(objective, expected, atol=1e-4, rtol=1e-3)
    objective.sum().backward()
    assert all(parameter.grad is not None for parameter in adapted.parameters())


@pytest.mark.parametrize(
    "values", [{}, {"kind": "dora"}, {"kind": "full"}, {"modules_to_save": ["norms", "patch_embedding"]}], ids=str
)
def test_pretrained_guidance_is_the_formula_with_the_true_pretrained_model(made, tiny, values: dict) -> None:
    adapted, now = made(**values), step()
    perturb(adapted)
    features, labels, scale = classes(adapted)
    loss = PretrainedGuided(features, labels, scale, None, teacher=2.0, clean=0.5)
    attacked, pretrained = (now.clean + 0.1).clamp(0, 1), load_model(tiny("clip"))

    def logits(model, images: Tensor) -> Tensor:
        return scale * normalize(model.encode_images(images), dim=-1) @ features.T

    ours, clean = logits(adapted.model, attacked), logits(adapted.model, now.clean)
    teacher = logits(pretrained, attacked)
    assert (ours - teacher).abs().max() > 0.01
    expected = cross_entropy(ours, labels, reduction="none") + 2 * kl(ours, teacher) + 0.5 * kl(ours, clean)
    encoder = Encoder(adapted, bf16=False)
    torch.testing.assert_close(loss.objective(encoder, attacked, now), expected, atol=1e-4, rtol=1e-3)
    only = cross_entropy(ours, labels, reduction="none")
    torch.testing.assert_close(loss.attacked(encoder, attacked, now), only, atol=1e-5, rtol=1e-4)


def test_live_classes_give_the_text_tower_a_gradient_in_the_update_only(made) -> None:
    adapted, now = made(tower="text"), step()
    _, labels, scale = classes(adapted)
    loss = ClassCrossEntropy(
        torch.zeros(3, 24), labels, scale, lambda: normalize(adapted.model.embed_texts(CAPTIONS[:3]), dim=1)
    )
    encoder = Encoder(adapted, bf16=False)
    loss.prepare(encoder, now, update=False)
    assert not loss.classes.requires_grad
    loss.prepare(encoder, now, update=True)
    loss.objective(encoder, now.clean, now).sum().backward()
    assert all(parameter.grad is not None for parameter in adapted.parameters())


def table(captions=CAPTIONS, seed: int = 0) -> CaptionTable:
    references = [(caption,) if isinstance(caption, str) else caption for caption in captions]
    return CaptionTable(references, seed, torch.device("cpu"))


def contrastive_of(texts: Tensor, adapted: AdaptedModel, **options) -> Contrastive:
    captions = table()
    return Contrastive(texts, captions.ids, adapted.model.logit_scale, table=captions, **options)


def test_contrastive_loss_of_two_trained_towers_is_that_of_clip(made) -> None:
    adapted, now = made(tower="both"), step()
    perturb(adapted)
    loss = contrastive_of(torch.zeros(4, 24), adapted, live=True)
    encoder = Encoder(adapted, bf16=False)
    loss.prepare(encoder, now, update=True)
    images = normalize(adapted.model.encode_images(now.clean), dim=1)
    texts = normalize(adapted.model.embed_texts(CAPTIONS), dim=1)
    logits, target = adapted.model.logit_scale * images @ texts.T, torch.arange(4)
    expected = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    objective = loss.objective(encoder, now.clean, now)
    torch.testing.assert_close(objective.mean(), expected, atol=1e-5, rtol=1e-4)
    objective.sum().backward()
    assert all(parameter.grad is not None for parameter in adapted.parameters())


def test_frozen_captions_have_one_direction(made) -> None:
    adapted, now = made(), step()
    texts = normalize(adapted.model.encode_texts(CAPTIONS), dim=1)
    loss = contrastive_of(texts, adapted)
    logits = adapted.model.logit_scale * normalize(adapted.model.encode_images(now.clean), dim=1) @ texts.T
    expected = cross_entropy(logits, torch.arange(4), reduction="none")
    torch.testing.assert_close(
        loss(adapted.model.encode_images(now.clean), now.samples, now.batch), expected, atol=1e-5, rtol=1e-4
    )


def test_an_epoch_draws_one_caption_per_sample() -> None:
    many = table([tuple(f"{image} {number}" for number in range(image + 1)) for image in range(50)])
    drawn = []
    for epoch in (0, 1, 0):
        many.start_epoch(epoch)
        drawn.append([many.distinct[number] for number in many.ids.tolist()])
        assert all(caption.startswith(f"{image} ") for image, caption in enumerate(drawn[-1]))
    assert drawn[0] == drawn[2]
    assert drawn[0] != drawn[1]
    assert many.own(2) == {3, 4, 5}


def test_matching_is_the_formula_with_the_hardest_negative(made) -> None:
    adapted, now = made("blip"), step()
    texts = normalize(adapted.model.encode_texts(CAPTIONS), dim=1)
    loss, encoder = Matching(table(), texts), Encoder(adapted, bf16=False)
    loss.prepare(encoder, now, update=False)
    similarity = normalize(adapted.model.encode_images(now.clean), dim=1) @ texts.T
    hardest = similarity.fill_diagonal_(-2).argmax(1).tolist()
    assert loss.negatives == hardest
    right = adapted.model.score_pairs(now.clean, CAPTIONS)
    wrong = adapted.model.score_pairs(now.clean, [CAPTIONS[place] for place in hardest])
    expected = (
        binary_cross_entropy_with_logits(right, torch.ones(4), reduction="none")
        + binary_cross_entropy_with_logits(wrong, torch.zeros(4), reduction="none")
    ) / 2
    torch.testing.assert_close(loss.objective(encoder, now.clean, now), expected, atol=1e-5, rtol=1e-4)


def test_another_caption_of_the_same_image_is_no_negative(made) -> None:
    adapted, now = made("blip"), step(2)
    two = table([CAPTIONS[:2], CAPTIONS[1:3]])
    texts = normalize(adapted.model.encode_texts(two.distinct), dim=1)
    loss, encoder = Matching(two, texts), Encoder(adapted, bf16=False)
    loss.prepare(encoder, now, update=False)
    assert loss.negatives == [None, 0]
    assert loss.objective(encoder, now.clean, now).shape == (2,)


def test_matching_beside_contrastive_adds_up(made) -> None:
    adapted, now = made("blip", tower="both"), step()
    texts = normalize(adapted.model.encode_texts(CAPTIONS), dim=1)
    contrastive = contrastive_of(texts, adapted, live=True)
    alone, encoder = Matching(table(), texts), Encoder(adapted, bf16=False)
    both = Matching(table(), texts, contrastive, weight=2.0)
    for loss in (alone, both):
        loss.prepare(encoder, now, update=False)
        loss.prepare(encoder, now, update=True)
    expected = contrastive.objective(encoder, now.clean, now) + 2 * alone.objective(encoder, now.clean, now)
    torch.testing.assert_close(both.objective(encoder, now.clean, now), expected, atol=1e-4, rtol=1e-4)


PROTOCOL = parse(
    EvaluationProtocol, {"samples": {"val": 8, "test": 8}, "attacks": [{"steps": 1}], "interval": 0, "batch_size": 8}
)
TRAININGS = {
    "trades": ("clip", {"loss": {"kind": "trades"}}),
    "pmg_aft": ("siglip", {"loss": {"kind": "pmg_aft"}, "adapter": {"kind": "full"}}),
    "itm": ("blip", {"loss": {"kind": "itm"}}),
    "itc and itm": ("blip", {"loss": {"kind": "contrastive", "itm": 1.0}, "adapter": {"tower": "both"}}),
    "text": ("clip", {"adapter": {"tower": "text"}}),
    "universal": ("clip", {"attack": {"kind": "universal"}, "adapter": {"kind": "adalora"}}),
    "scheduled": (
        "clip",
        {"adapter": {"adaptive": {"mode": "scheduled"}, "modules_to_save": ["norms"]}, "precision": "bf16"},
    ),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_training_continues_exactly(tiny, name: str) -> None:
    family, values = TRAININGS[name]
    small = {"data": {"train_samples": 24}, "optimiser": {"batch_size": 8, "epochs": 2}, "adapter": {"rank": 2}}
    base = {**small, "model": tiny(family).model_dump()}
    config = parse(TrialConfig, vary(TrialConfig, base, dict(leaves(values))))
    bench = Workbench()
    first, last = fine_tune(config, PROTOCOL, bench=bench)
    (again,) = fine_tune(config, PROTOCOL, bench=bench, state=first.state)
    assert all(torch.equal(value, again.state["adapter"][key]) for key, value in last.state["adapter"].items())
    assert {key: value for key, value in last.metrics.items() if "cost" not in key} == {
        key: value for key, value in again.metrics.items() if "cost" not in key
    }
    start = adapt(bench.model(config.model), config.adapter, config.seed).state()
    assert any(not torch.equal(value, last.state["adapter"].get(key)) for key, value in start.items())


def test_matching_needs_a_head(made, tiny) -> None:
    config = parse(TrialConfig, {"loss": {"kind": "itm"}, "model": tiny("clip").model_dump()})
    data = ImageTextSet(torch.zeros(1, 3, 16, 16), torch.zeros(1), ("a",))
    with pytest.raises(ModelError, match="a model with a matching head, such as BLIP"):
        build_loss(config, SimpleNamespace(), data, made())


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"loss": {"itm": 1.0}}, "itm is a weight beside the contrastive loss"),
        ({"loss": {"kind": "fare"}, "adapter": {"tower": "text"}}, "trains image embeddings, but adapter.tower"),
        ({"loss": {"kind": "trades"}, "attack": {"random_start": False}}, "TRADES has no gradient"),
    ],
)
def test_combinations_that_cannot_work_are_refused(values: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse(TrialConfig, values)
