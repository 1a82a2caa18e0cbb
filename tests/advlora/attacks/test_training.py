from __future__ import annotations

import pytest
import torch

from advlora.attacks import Batch, attack
from advlora.config.training_attacks import FgsmRs, NFgsm, NoAttack, TrainPgd
from advlora.randomness import Streams

pytestmark = pytest.mark.unit

EPSILON = 0.05
KINDS = (TrainPgd, FgsmRs, NFgsm)
NOISE_RADIUS = 2.0


@pytest.fixture
def images():
    return torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.3


class Climb:
    """A loss that brighter upper rows and darker lower rows raise; counts its calls."""

    calls = 0

    def __call__(self, points):
        self.calls += 1
        return points[:, :, :2].sum((1, 2, 3)) - points[:, :, 2:].sum((1, 2, 3))


def streams(count, seed=0):
    return Streams.of(seed, "attack", samples=torch.arange(count))


def attacked(images, kind, seed=0, loss=None, **values):
    return attack(kind(**{"epsilon": EPSILON, **values}), Batch(loss or Climb(), images, streams(len(images), seed)))


@pytest.mark.parametrize("config", [NoAttack(), TrainPgd(steps=1), TrainPgd(steps=4), FgsmRs(), NFgsm()], ids=repr)
def test_an_attack_takes_as_many_gradients_as_it_is_said_to_cost(images, config):
    loss = Climb()
    attack(config, Batch(loss, images, streams(len(images))))
    assert loss.calls == config.gradient_steps


@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_raises_the_loss_it_is_given(images, kind):
    assert (Climb()(attacked(images, kind)) > Climb()(images)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_start_comes_from_the_streams_alone(images, kind):
    state = torch.get_rng_state()
    small = {"step_size": 1e-4}  # so that the start is still seen
    first = attacked(images, kind, **small)
    assert torch.equal(attacked(images, kind, **small), first)
    assert not torch.equal(attacked(images, kind, seed=1, **small), first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", KINDS)
def test_without_random_start_one_step_leads_straight_up(images, kind):
    one = {"steps": 1} if kind is TrainPgd else {}
    config = kind(epsilon=EPSILON, step_size=0.02, random_start=False, **one)
    found = attack(config, Batch(Climb(), images, streams(len(images))))
    up = torch.ones(4, 1)
    up[2:] = -1
    torch.testing.assert_close(found - images, (0.02 * up).expand_as(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("kind", "reach"), [(TrainPgd, 1.0), (FgsmRs, 1.0), (NFgsm, NOISE_RADIUS + 1)])
def test_only_the_noise_of_n_fgsm_may_leave_the_ball(images, kind, reach):
    farthest = float((attacked(images, kind) - images).abs().max()) / EPSILON
    assert farthest == pytest.approx(reach, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_the_norm_reaches_start_and_steps(images, kind):
    delta = attacked(images, kind, norm="l2") - images
    lengths = delta.flatten(1).norm(dim=1)
    assert (lengths <= EPSILON * (NOISE_RADIUS + 1 if kind is NFgsm else 1) + 1e-6).all()
    assert delta.abs().max() < EPSILON
    assert lengths.min() > 0.1 * EPSILON


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_has_no_history_and_an_empty_batch_is_no_problem(images, kind):
    assert not attacked(images, kind).requires_grad
    assert attacked(images[:0], kind).shape == (0, 3, 4, 4)
