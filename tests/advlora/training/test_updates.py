from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from advlora.data import load_manifest
from advlora.distributed import SOLO
from advlora.errors import Diverged
from advlora.evaluation.zero_shot import class_captions
from advlora.losses import build_loss, encoder
from advlora.models.open_clip import OpenClipModel
from advlora.training.trainer import restore
from advlora.training.updates import Updates
from tests.advlora.short_trials import trial

pytestmark = pytest.mark.unit

ONE_STEP = {"data.train_samples": 16, "optimiser.epochs": 1, "optimiser.warmup": 0}


@pytest.fixture(scope="module")
def make(bench):
    def make(values=None):
        config = trial(ONE_STEP | dict(values or {}))
        adapted = restore(config, bench)
        data = bench.split(config.data, "train", adapted.model.preprocessing, config.data.train_samples)
        return Updates(adapted, build_loss(config, bench, data, adapted), data, config, SOLO)

    return make


def weights(updates):
    return {name: tensor.detach().clone() for name, tensor in updates.model.state_dict().items()}


def changed(updates, before):
    return {name for name, tensor in updates.model.state_dict().items() if not torch.equal(tensor, before[name])}


def trained(updates):
    return {name for name, parameter in updates.model.named_parameters() if parameter.requires_grad}


def clean_losses(updates, bench):
    """Cross-entropy of every training sample, written out."""
    classes = bench.class_features(updates.config.model, updates.config.data)
    features = normalize(updates.model.encode_images(updates.data.images.float() / 255), dim=-1)
    return cross_entropy(updates.model.logit_scale * features @ classes.T, updates.data.labels, reduction="none")


@pytest.mark.parametrize(
    "values",
    [
        *({"adapter.kind": kind} for kind in ("lora", "full", "linear_probe")),
        *({"loss.kind": kind} for kind in ("contrastive", "fare")),
        *({"attack.kind": kind} for kind in ("none", "fgsm_rs", "n_fgsm")),
        {"attack.norm": "l2", "attack.epsilon": 1.0},
        {"attack.random_start": False, "adapter.adaptive.per": "rank", "precision": "bf16"},
        {"adapter.init": "pissa", "adapter.alignment.enabled": False},
    ],
    ids=str,
)
def test_a_step_moves_all_that_is_trained_and_nothing_else(make, values):
    updates = make(values)
    before = weights(updates)
    assert updates.run(0) > 0
    assert changed(updates, before) == trained(updates)
    assert all(parameter.grad is None for parameter in updates.model.parameters() if not parameter.requires_grad)


def test_a_step_is_clipped_adamw_on_the_mean_loss(make, bench):
    values = {"adapter.kind": "full", "attack.kind": "none", "optimiser.clip_norm": 0.1, "optimiser.weight_decay": 0.3}
    updates, reference = make(values), make(values)
    parameters, settings = reference.parameters, reference.config.optimiser
    loss = clean_losses(reference, bench).mean()
    loss.backward()
    norm = torch.stack([parameter.grad.norm() for parameter in parameters]).norm()
    assert norm > settings.clip_norm
    for parameter in parameters:
        gradient = parameter.grad * settings.clip_norm / norm
        decay = settings.weight_decay if parameter.dim() > 1 else 0.0
        step = gradient / (gradient.abs() + 1e-8)  # the first step of Adam, bias-corrected
        parameter.data = parameter.data * (1 - settings.learning_rate * decay) - settings.learning_rate * step
    assert updates.run(0) == pytest.approx(float(loss), rel=1e-5)
    moved = [(ours - theirs).abs().max() for ours, theirs in zip(updates.parameters, parameters, strict=True)]
    assert max(moved) < 0.1 * settings.learning_rate


def test_the_reported_loss_is_the_mean_over_samples_also_with_a_smaller_last_batch(make, bench):
    updates = make({"attack.kind": "none", "data.train_samples": 21, "optimiser.learning_rate": 1e-12})
    expected = clean_losses(updates, bench).mean()
    assert updates.run(0) == pytest.approx(float(expected), rel=1e-4)


def test_the_attack_maximises_the_loss_that_is_trained(make):
    still = {"optimiser.learning_rate": 1e-12}
    for loss in ("cross_entropy", "contrastive", "fare"):
        clean, attacked = (make(still | {"loss.kind": loss, "attack.kind": kind}).run(0) for kind in ("none", "pgd"))
        assert attacked > clean + 0.1


def test_noise_belongs_to_seed_epoch_and_sample_and_not_to_the_batch(make):
    noise = {"attack.kind": "n_fgsm", "attack.step_size": 1e-6, "attack.epsilon": 0.1, "optimiser.learning_rate": 1e-12}

    def loss(epoch=0, **values):
        return make(noise | values).run(epoch)

    first = loss()
    assert loss(**{"optimiser.batch_size": 5}) == pytest.approx(first, rel=1e-4)
    assert loss(epoch=1) != pytest.approx(first, rel=1e-3)
    assert loss(seed=1) != pytest.approx(first, rel=1e-3)


def test_the_penalty_steers_the_step_but_not_the_reported_loss(make):
    clusters = {"adapter.alignment.target": "clusters"}  # the start is not their minimum, so that the first step shows
    light, heavy = (make({**clusters, "adapter.alignment.weight": weight}) for weight in (1e-9, 100.0))
    assert light.run(0) == heavy.run(0)
    misfits = [
        float(torch.stack([layer.misfit() for layer in each.adapted.layers.values()]).mean()) for each in (light, heavy)
    ]
    assert misfits[1] < misfits[0]


def test_an_epoch_does_not_depend_on_what_came_before_in_the_process(make):
    used, fresh = make({"adapter.dropout": 0.4}), make({"adapter.dropout": 0.4})
    start = used.adapted.state()
    used.run(3)
    used.adapted.load_state(start)
    used.optimiser.load_state_dict(fresh.optimiser.state_dict())
    loss = used.run(1)
    torch.rand(5)
    assert fresh.run(1) == loss
    torch.testing.assert_close(used.adapted.state(), fresh.adapted.state(), rtol=0, atol=0)


def test_dropout_acts_in_the_update_and_is_off_afterwards(make):
    plain, dropped = make(), make({"adapter.dropout": 0.5})
    assert dropped.dropouts
    assert not plain.dropouts
    assert plain.run(0) != dropped.run(0)
    assert not any(module.training for module in dropped.model.modules())


def test_the_learning_rate_follows_the_schedule_over_all_epochs(make):
    updates = make({"data.train_samples": 48, "optimiser.epochs": 4, "attack.kind": "none", "optimiser.warmup": 0.5})
    for epoch, share in ((0, 3 / 6), (1, 1.0), (2, (1 + 0.5) / 2)):
        updates.run(epoch)
        rates = {
            group["factor"]: group["lr"] / updates.config.optimiser.learning_rate
            for group in updates.optimiser.param_groups
        }
        assert rates == pytest.approx({1.0: share, 10.0: 10 * share})


def test_a_learned_scale_and_the_b_of_lora_plus_take_longer_steps(make):
    """The first step of Adam is the learning rate itself."""

    def moved(values):
        updates = make({"attack.kind": "none", "optimiser.batch_size": 16, **values})
        layer = next(iter(updates.adapted.layers.values()))
        parts = {"alpha": layer.lora_adaptive["default"], "B": layer.lora_B["default"].weight}
        before = {name: part.detach().clone() for name, part in parts.items()}
        updates.run(0)
        rate = updates.config.optimiser.learning_rate
        return {name: float((part - before[name]).abs().max()) / rate for name, part in parts.items()}

    assert moved({}) == pytest.approx({"alpha": 10.0, "B": 1.0}, rel=1e-2)
    values = {"adapter.adaptive.learning_rate_factor": 1.0, "adapter.loraplus_lr_ratio": 16.0}
    assert moved(values) == pytest.approx({"alpha": 1.0, "B": 16.0}, rel=1e-2)


def test_the_state_is_a_copy_on_both_ways(make):
    updates, other = make({"optimiser.epochs": 2}), make({"optimiser.epochs": 2})
    updates.run(0)
    state, kept = updates.state(), updates.state()
    updates.run(1)
    torch.testing.assert_close(state, kept, rtol=0, atol=0)
    other.load_state(state)
    other.run(1)
    torch.testing.assert_close(state, kept, rtol=0, atol=0)


def test_a_loss_that_is_not_finite_ends_the_training_before_the_weights_are_touched(make):
    updates = make()
    layer = next(iter(updates.adapted.layers.values()))
    layer.lora_A["default"].weight.data[0, 0] = float("nan")
    before = weights(updates)
    with pytest.raises(Diverged, match=r"nan.* in epoch 5, step 1"):
        updates.run(4)
    torch.testing.assert_close(weights(updates), before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("adapter", ["lora", "dora", "adalora", "full"])
def test_the_attack_runs_frozen_and_the_update_does_not(make, monkeypatch, adapter):
    updates = make({"adapter.kind": adapter, "attack.steps": 2})
    frozen, embed = [], updates.model.encode_images
    monkeypatch.setattr(
        updates.model, "encode_images", lambda images: frozen.append(not trained(updates)) or embed(images)
    )
    updates._step(torch.arange(16), 0, 0)
    assert frozen == [True, True, False]


OF_BOTH_TOWERS = ("cross_entropy", "contrastive", "trades", "pmg_aft")
LOSSES = (*OF_BOTH_TOWERS, "fare", "par", "cleanclip")


def gradients(updates):
    """What one step leaves, from an adapter that was moved before."""
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in updates.parameters:
            parameter += 0.02 * torch.randn(parameter.shape, generator=random)
    updates._step(torch.arange(16), 0, 0)
    return [torch.zeros(1) if parameter.grad is None else parameter.grad for parameter in updates.parameters]


@pytest.mark.parametrize("adapter", ["lora", "dora", "full"])
@pytest.mark.parametrize(
    ("tower", "loss"),
    [*(("vision", loss) for loss in (*LOSSES, "itm")), *(("both", loss) for loss in (*OF_BOTH_TOWERS, "itm"))],
)
def test_an_update_after_a_frozen_attack_is_the_one_without(make, tiny, monkeypatch, loss, adapter, tower):
    # An attack in L2 moves with rounding, where a sign would jump.
    values = {"adapter.kind": adapter, "attack.norm": "l2", "attack.epsilon": 1.0, "adapter.tower": tower}
    values |= {"loss.kind": loss, "optimiser.clip_norm": 1e9}
    values |= {"model": tiny("blip").model_dump()} if loss == "itm" else {}
    updates, reference = make(values), make(values)
    monkeypatch.setattr(reference.adapted, "frozen", nullcontext)
    found, expected = gradients(updates), gradients(reference)
    largest = max(float(gradient.abs().max()) for gradient in expected)
    assert largest > 0
    # TRADES attacks a divergence, whose gradient is small next to the clean image, and its direction mostly rounding.
    allowed = (1e-3 if loss == "trades" else 1e-4) * largest
    assert max(float((one - other).abs().max()) for one, other in zip(found, expected, strict=True)) < allowed


@pytest.fixture
def passes(monkeypatch):
    """How many captions each pass of a text tower embeds, and whether it keeps a graph."""
    seen, embed = [], OpenClipModel.embed_texts

    def watched(model, captions):
        seen.append((len(captions), torch.is_grad_enabled()))
        return embed(model, captions)

    monkeypatch.setattr(OpenClipModel, "embed_texts", watched)
    return seen


CLASSES = {"adapter.tower": "both", "attack.steps": 2}


def test_class_texts_of_a_trained_text_tower_are_embedded_once_per_step(make, passes):
    updates = make(CLASSES)
    passes.clear()
    updates.run(0)
    captions = len(class_captions(load_manifest(updates.config.data)))
    assert passes == [(captions, True)] * updates.steps


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_many_class_texts_are_embedded_part_by_part_and_give_the_same_numbers(make, passes, monkeypatch, dropout):
    values = CLASSES | {"adapter.dropout": dropout}
    whole, parted = make(values), make(values)
    flops, loss = whole.flops(), whole.run(0)
    monkeypatch.setattr(encoder, "TEXTS", 4)
    passes.clear()
    assert parted.run(0) == (pytest.approx(loss, rel=1e-4) if not dropout else pytest.approx(loss, rel=0.2))
    assert max(count for count, _ in passes) == 4
    assert parted.flops() > flops  # parts are embedded again in the backward pass
    if not dropout:
        ours, theirs = (torch.cat([each.flatten() for each in updates.parameters]) for updates in (parted, whole))
        assert (ours - theirs).abs().median() < 1e-5
