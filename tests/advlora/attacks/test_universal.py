from __future__ import annotations

import pytest
import torch
from torch import Tensor

from advlora.attacks import Batch, Epoch, attack
from advlora.config.training_attacks import Universal
from advlora.randomness import Streams

pytestmark = pytest.mark.unit

EPSILON, NOBODY = 0.1, Streams(torch.empty(0, dtype=torch.int64))


def towards(target: Tensor):
    return lambda images: (images * target).sum((1, 2, 3))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2


@pytest.fixture
def target() -> Tensor:
    return torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(1))


def attacked(images, target, epoch=None, **values) -> Tensor:
    """Returns the perturbation of every image, on the ascent that `epoch` carries."""
    config = Universal(**{"epsilon": EPSILON, **values})
    return attack(config, Batch(towards(target), images, NOBODY, epoch or Epoch())) - images


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_all_images_share_one_perturbation_inside_the_ball(images, target, norm: str) -> None:
    delta = attacked(images, target, norm=norm, steps=3)
    torch.testing.assert_close(delta, delta[:1].expand_as(delta), atol=1e-6, rtol=0)
    length = delta[0].abs().max() if norm == "linf" else delta[0].norm()
    assert EPSILON / 2 < length <= EPSILON + 1e-6
    assert (delta[0] * target).sum() > 0


def test_linear_loss_is_maximised_by_the_sign(images, target) -> None:
    delta = attacked(images, target, steps=8)[0]
    torch.testing.assert_close(delta, EPSILON * target.sign(), atol=1e-6, rtol=0)


def test_the_next_batch_continues_and_the_next_epoch_starts_over(images, target) -> None:
    epoch, small = Epoch(), {"steps": 1, "step_size": 0.01, "random_start": False}
    first = attacked(images, target, epoch, **small)[0]
    second = attacked(images, target, epoch, **small)[0]
    torch.testing.assert_close(second, 2 * first, atol=1e-6, rtol=0)
    torch.testing.assert_close(attacked(images, target, Epoch(number=1), **small)[0], first, atol=1e-6, rtol=0)


def test_random_starts_belong_to_the_epoch(images, target) -> None:
    deltas = [attacked(images, target, Epoch(number=number), steps=1, step_size=1e-6) for number in (0, 1, 0)]
    assert torch.equal(deltas[0], deltas[2])
    assert not torch.equal(deltas[0], deltas[1])


def test_pixels_stay_in_range(target) -> None:
    extreme = torch.cat([torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)])
    found = extreme + attacked(extreme, target)
    assert found.min() >= 0
    assert found.max() <= 1
