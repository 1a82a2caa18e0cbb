from __future__ import annotations

import pytest
import torch
from torch import Tensor

from advlora.attacks import UniversalPerturbation, gradient_steps
from advlora.config import TrainingAttackConfig
from advlora.distributed import SOLO

pytestmark = pytest.mark.unit

EPSILON = 0.1


def towards(target: Tensor):
    return lambda images: (images * target).sum((1, 2, 3))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2


@pytest.fixture
def target() -> Tensor:
    return torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(1))


def made(**values) -> UniversalPerturbation:
    config = TrainingAttackConfig(kind="universal", epsilon=EPSILON, **values)
    attack = UniversalPerturbation(config, 0, SOLO)
    attack.start_epoch(0)
    return attack


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_all_images_share_one_perturbation_inside_the_ball(images, target, norm: str) -> None:
    delta = made(norm=norm, steps=3).attack(towards(target), images) - images
    torch.testing.assert_close(delta, delta[:1].expand_as(delta), atol=1e-6, rtol=0)
    length = delta[0].abs().max() if norm == "linf" else delta[0].norm()
    assert EPSILON / 2 < length <= EPSILON + 1e-6
    assert (delta[0] * target).sum() > 0


def test_linear_loss_is_maximised_by_the_sign(images, target) -> None:
    attack = made(steps=8)
    delta = attack.attack(towards(target), images)[0] - images[0]
    torch.testing.assert_close(delta, EPSILON * target.sign(), atol=1e-6, rtol=0)


def test_the_next_batch_continues_and_the_next_epoch_begins_anew(images, target) -> None:
    attack = made(steps=1, step_size=0.01, random_start=False)
    first = attack.attack(towards(target), images)[0] - images[0]
    second = attack.attack(towards(target), images)[0] - images[0]
    torch.testing.assert_close(second, 2 * first, atol=1e-6, rtol=0)
    attack.start_epoch(1)
    torch.testing.assert_close(attack.attack(towards(target), images)[0] - images[0], first, atol=1e-6, rtol=0)


def test_random_starts_belong_to_the_epoch(images, target) -> None:
    deltas = []
    for epoch in (0, 1, 0):
        attack = made(steps=1, step_size=1e-6)
        attack.start_epoch(epoch)
        deltas.append(attack.attack(towards(target), images) - images)
    assert torch.equal(deltas[0], deltas[2])
    assert not torch.equal(deltas[0], deltas[1])


def test_its_gradients_are_counted_and_pixels_stay_in_range(target) -> None:
    assert gradient_steps(TrainingAttackConfig(kind="universal", steps=4)) == 4
    extreme = torch.cat([torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)])
    attacked = made(steps=2).attack(towards(target), extreme)
    assert attacked.min() >= 0
    assert attacked.max() <= 1
