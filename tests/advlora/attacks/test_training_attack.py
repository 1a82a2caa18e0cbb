from __future__ import annotations

import pytest
import torch

from advlora.attacks import attack, gradient_steps
from advlora.attacks.training import NOISE_RADIUS, step_size
from advlora.config import TrainingAttackConfig
from advlora.randomness import generator

pytestmark = pytest.mark.unit

EPSILON = 0.05
KINDS = ("pgd", "fgsm_rs", "n_fgsm")


@pytest.fixture
def images():
    return torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.3


class Climb:
    """A loss that brighter upper rows and darker lower rows raise; counts its calls."""

    calls = 0

    def __call__(self, points):
        self.calls += 1
        return points[:, :, :2].sum((1, 2, 3)) - points[:, :, 2:].sum((1, 2, 3))


def config(**values):
    return TrainingAttackConfig(**{"epsilon": EPSILON, **values})


def attacked(images, seed=0, loss=None, **values):
    sources = (generator(seed, "attack", place) for place in range(len(images)))
    return attack(config(**values), loss or Climb(), images, sources)


@pytest.mark.parametrize(("kind", "steps"), [("none", 3), ("pgd", 1), ("pgd", 4), ("fgsm_rs", 3), ("n_fgsm", 3)])
def test_an_attack_takes_as_many_gradients_as_it_is_said_to_cost(images, kind, steps):
    loss = Climb()
    attacked(images, loss=loss, kind=kind, steps=steps)
    assert loss.calls == gradient_steps(config(kind=kind, steps=steps))


@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_raises_the_loss_it_is_given(images, kind):
    assert (Climb()(attacked(images, kind=kind)) > Climb()(images)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_start_comes_from_the_generators_alone(images, kind):
    state = torch.get_rng_state()
    small = {"kind": kind, "steps": 1, "step_size": 1e-3}  # so that the start is still seen
    first = attacked(images, **small)
    assert torch.equal(attacked(images, **small), first)
    assert not torch.equal(attacked(images, seed=1, **small), first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", KINDS)
def test_without_random_start_one_step_leads_straight_up(images, kind):
    sources = [torch.Generator() for _ in images]
    before = [source.get_state() for source in sources]
    found = attack(config(kind=kind, steps=1, step_size=0.02, random_start=False), Climb(), images, sources)
    up = torch.ones(4, 1)
    up[2:] = -1
    torch.testing.assert_close(found - images, (0.02 * up).expand_as(images), rtol=0, atol=1e-6)
    assert all(torch.equal(source.get_state(), state) for source, state in zip(sources, before, strict=True))


@pytest.mark.parametrize(("kind", "reach"), [("pgd", 1.0), ("fgsm_rs", 1.0), ("n_fgsm", NOISE_RADIUS + 1)])
def test_only_the_noise_of_n_fgsm_may_leave_the_ball(images, kind, reach):
    farthest = float((attacked(images, kind=kind) - images).abs().max()) / EPSILON
    assert farthest == pytest.approx(reach, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_the_norm_reaches_start_and_steps(images, kind):
    delta = attacked(images, kind=kind, norm="l2") - images
    lengths = delta.flatten(1).norm(dim=1)
    assert (lengths <= EPSILON * (NOISE_RADIUS + 1 if kind == "n_fgsm" else 1) + 1e-6).all()
    assert delta.abs().max() < EPSILON
    assert lengths.min() > 0.1 * EPSILON


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_has_no_history_and_an_empty_batch_is_no_problem(images, kind):
    assert not attacked(images, kind=kind).requires_grad
    assert attacked(images[:0], kind=kind).shape == (0, 3, 4, 4)


def test_a_configured_step_is_in_force():
    assert step_size(config(kind="n_fgsm")) == EPSILON
    assert step_size(config(kind="n_fgsm", step_size=0.5)) == 0.5
    assert step_size(config(kind="pgd", steps=1)) == EPSILON
