from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from advlora.losses import CleanClip, Contrastive, Encoder, PerturbAndRecover, Step, build_loss
from advlora.losses.cleaning import augmented
from advlora.models import Preprocessing
from advlora.training.cost import step_forwards, training_forwards
from advlora.training.trainer import restore
from tests.advlora.short_trials import trial

pytestmark = pytest.mark.unit

SAMPLES = torch.tensor([5, 2, 9, 0])


@pytest.fixture
def model(bench):
    return restore(trial({"adapter.kind": "full"}), bench)


@pytest.fixture
def now(bench) -> Step:
    images = bench.split(trial().data, "train", Preprocessing(28), trial().data.train_samples).images
    return Step(images[SAMPLES].float() / 255, SAMPLES, SAMPLES)


def contrastive(model, random: torch.Generator) -> Contrastive:
    texts = normalize(torch.randn(3, model.model.embed_dim, generator=random), dim=-1)
    return Contrastive(texts, torch.arange(12) % 3, model.model.logit_scale)


def unit(model, images: Tensor) -> Tensor:
    return normalize(model.model.encode_images(images), dim=-1)


def test_cleanclip_draws_an_image_to_its_own_view_and_away_from_those_of_others(model, now):
    beside = contrastive(model, torch.Generator().manual_seed(1))
    loss, encoder = CleanClip(beside, 0.5, model.model.logit_scale, seed=3), Encoder(model, bf16=False)
    loss.start_epoch(2)
    found = loss.objective(encoder, now.clean, now)
    views = unit(model, augmented(now.clean, SAMPLES, 3, 2))
    odds = (model.model.logit_scale * unit(model, now.clean) @ views.T).softmax(1)
    expected = beside(model.model.encode_images(now.clean), SAMPLES, SAMPLES) - 0.5 * odds.diagonal().log()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.numel() > 1)


def test_par_pushes_until_an_image_is_far_enough_from_where_it_was(model, now):
    random = torch.Generator().manual_seed(1)
    beside, poisoned = contrastive(model, random), torch.randn(12, model.model.embed_dim, generator=random)
    distance = (unit(model, now.clean) - normalize(poisoned, dim=-1)[SAMPLES]).square().sum(-1)
    until = float(distance.median()) + 1e-3  # some are far enough, some are not
    loss = PerturbAndRecover(beside, 2.0, poisoned, until)
    recover = beside(model.model.encode_images(now.clean), SAMPLES, SAMPLES)
    expected = recover - 2.0 * torch.where(distance < until, distance, until)
    torch.testing.assert_close(loss.objective(Encoder(model, False), now.clean, now), expected, rtol=1e-4, atol=1e-4)
    far = PerturbAndRecover(beside, 2.0, poisoned, 1e-3).objective(Encoder(model, False), now.clean, now)
    gradient, only = (torch.autograd.grad(each.sum(), model.parameters()[0])[0] for each in (far, recover))
    torch.testing.assert_close(gradient, only)


def test_the_attacker_has_the_contrastive_loss_alone(model, now):
    beside = contrastive(model, torch.Generator().manual_seed(1))
    expected = beside(model.model.encode_images(now.clean), SAMPLES, SAMPLES)
    for loss in (
        CleanClip(beside, 0.5, model.model.logit_scale, 0),
        PerturbAndRecover(beside, 2.0, torch.ones(12, model.model.embed_dim), 1.0),
    ):
        torch.testing.assert_close(loss.attacked(Encoder(model, False), now.clean, now), expected)


def test_a_view_belongs_to_seed_epoch_and_sample(now):
    views = augmented(now.clean, SAMPLES, 0, 0)
    assert views.shape == now.clean.shape
    assert 0 <= views.min() <= views.max() <= 1
    torch.testing.assert_close(augmented(now.clean[1:2], SAMPLES[1:2], 0, 0), views[1:2])
    for other in (augmented(now.clean, SAMPLES, 1, 0), augmented(now.clean, SAMPLES, 0, 1), now.clean):
        assert (other - views).abs().mean() > 0.01


def test_views_are_mirrored_as_often_as_not():
    ramp = torch.linspace(0, 1, 28).expand(64, 3, 28, 28).contiguous()
    falling = (augmented(ramp, torch.arange(64), 0, 0).mean((1, 2)).diff(dim=-1).sum(-1) < 0).sum()
    assert 20 < falling < 44


def test_losses_are_built_against_the_poisoned_model_and_cost_what_they_pass(bench):
    for kind, passes, once in (("cleanclip", 2, 0), ("par", 1, 1)):
        config = trial({"loss.kind": kind, "adapter.kind": "full", "attack.kind": "none"})
        plain = trial({"adapter.kind": "full", "attack.kind": "none"})
        assert step_forwards(config) == passes * step_forwards(plain)
        assert training_forwards(config, 10) == 10 * (step_forwards(config) * config.optimiser.epochs + once)
    model = restore(config, bench)
    data = bench.split(config.data, "train", Preprocessing(28), config.data.train_samples)
    images = data.images[SAMPLES].float() / 255
    loss = build_loss(config, bench, data, model)
    objective = loss.objective(Encoder(model, False), images, Step(images, SAMPLES, SAMPLES))
    recover = loss.contrastive(model.model.encode_images(images), SAMPLES, SAMPLES)
    torch.testing.assert_close(objective, recover, rtol=1e-4, atol=1e-4)  # before the first step nothing has moved
