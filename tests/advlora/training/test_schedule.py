from __future__ import annotations

import math

import pytest
import torch

from advlora.config import OptimiserConfig
from advlora.training.schedule import batches, learning_rate, steps_per_epoch

pytestmark = pytest.mark.unit


def order(size=8, seed=0, epoch=0):
    return torch.cat(batches(30, size, seed, epoch)).tolist()


def rates(total, **values):
    config = OptimiserConfig(learning_rate=0.5, **values)
    return [learning_rate(step, total, config) for step in range(total)]


def test_every_sample_comes_once_per_epoch():
    parts = batches(30, 8, 0, 0)
    assert [len(part) for part in parts] == [8, 8, 8, 6]
    assert len(parts) == steps_per_epoch(30, 8)
    assert sorted(order()) == list(range(30))
    assert order() != list(range(30))
    assert [len(part) for part in batches(30, 100, 0, 0)] == [30]


def test_the_order_follows_seed_and_epoch_and_nothing_else():
    torch.manual_seed(3)
    first = order()
    torch.rand(9)
    assert order() == order(size=5) == first
    assert order(epoch=1) != first
    assert order(seed=1) != first
    assert order(seed=1, epoch=0) != order(seed=0, epoch=1)


@pytest.mark.parametrize(("samples", "size", "steps"), [(30, 8, 4), (32, 8, 4), (1, 8, 1), (33, 8, 5)])
def test_steps_per_epoch(samples, size, steps):
    assert steps_per_epoch(samples, size) == steps == len(batches(samples, size, 0, 0))


def test_the_rate_rises_linearly_and_falls_as_a_half_cosine():
    found = rates(12, warmup=0.25)
    assert found[:3] == pytest.approx([0.5 / 3, 1.0 / 3, 0.5])
    assert found[3:] == pytest.approx([0.25 * (1 + math.cos(math.pi * step / 9)) for step in range(9)])
    assert found[3] == 0.5
    assert 0 < found[-1] < 0.02
    assert found[3:] == sorted(found[3:], reverse=True)


def test_warm_up_may_be_nothing_or_everything():
    assert rates(4, warmup=0) == pytest.approx([0.5, 0.25 + 0.25 * 0.5**0.5, 0.25, 0.25 - 0.25 * 0.5**0.5])
    assert rates(4, warmup=1) == pytest.approx([0.125, 0.25, 0.375, 0.5])
    assert rates(1, warmup=0.1) == rates(1, warmup=0) == [0.5]
