from __future__ import annotations

import pytest
import torch
from torch import nn

from advlora.attacks import Threat, margin, objective, withstands
from advlora.config.evaluation_attacks import Noise, Pma
from advlora.evaluation.guards.gradients import vanishing_share
from advlora.randomness import Streams
from tests.advlora.short_trials import evaluation_attack

pytestmark = pytest.mark.unit

COUNT, EPSILON = 40, 0.03
STREAMS = Streams.of(0, "examination", samples=torch.arange(COUNT))


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.GELU(), nn.Linear(32, 5))


@pytest.fixture
def images():
    return torch.rand(COUNT, 3, 8, 8, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def labels(net, images):
    return net(images).argmax(1)


def test_the_objective_is_the_margin_of_the_probabilities():
    logits, labels = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 3.0]]), torch.tensor([0, 0])
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    expected = torch.stack([p[0, 2] - p[0, 0], p[1, 1] - p[1, 0]])
    torch.testing.assert_close(objective("probability_margin", logits, labels), expected)
    assert (objective("probability_margin", 50 * logits, labels).abs() <= 1).all()


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", EPSILON), ("l2", 0.4)])
def test_it_breaks_more_than_noise_and_more_in_a_larger_ball(net, images, labels, norm, epsilon):
    def kept(attack, radius):
        return withstands(net, images, labels, attack, radius, STREAMS)

    small, large = (kept(Pma(norm=norm, steps=10), factor * epsilon) for factor in (1, 4))
    assert large.sum() < small.sum() < kept(Noise(norm=norm), epsilon).sum()


def test_every_visited_point_lies_in_the_ball_and_one_run_takes_the_gradients_it_is_said_to_cost(net, images, labels):
    visited = []

    def seen(points):
        visited.append(points.detach())
        return torch.stack([1 + 0 * points.sum((1, 2, 3)), 0.1 * points.mean((1, 2, 3))], dim=1)

    first = torch.zeros(COUNT, dtype=torch.int64)
    attack = Pma(steps=6)
    assert withstands(seen, images, first, attack, EPSILON, STREAMS).all()
    assert all((Threat("linf", EPSILON).size(points - images) <= EPSILON + 1e-6).all() for points in visited)
    assert len(visited) == 7
    assert attack.forwards(5) == 2 * 6 + 1


def test_an_image_fares_alike_in_any_batch(net, images, labels):
    attack = evaluation_attack(kind="pma", steps=5, restarts=2)
    whole = withstands(net, images, labels, attack, EPSILON, STREAMS)
    parts = [
        withstands(net, images[i : i + 7], labels[i : i + 7], attack, EPSILON, STREAMS[i : i + 7])
        for i in range(0, COUNT, 7)
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_saturated_probabilities_are_flagged_as_vanishing_gradients(net, images, labels):
    sharp = (margin(net(images), labels) < -0.1).nonzero()[:, 0]
    facing = images[sharp], labels[sharp]
    assert vanishing_share(net, *facing, "probability_margin") == 0
    assert vanishing_share(lambda points: 1e4 * net(points), *facing, "probability_margin") == 1
