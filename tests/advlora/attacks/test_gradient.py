from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from advlora.attacks import Batch, Threat, attack, pgd
from advlora.config.training_attacks import FgsmRs, NFgsm, NoAttack, TrainPgd
from advlora.randomness import Streams

pytestmark = pytest.mark.unit

EPSILON = 8 / 255


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.GELU(), nn.Linear(32, 5))


@pytest.fixture
def images():
    return torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def loss(net):
    labels = torch.arange(10) % 5
    return lambda points: cross_entropy(net(points), labels, reduction="none")


def streams(count=10):
    return Streams.of(7, "attack", samples=torch.arange(count))


def gradient_of(loss, point):
    point = point.clone().requires_grad_()
    loss(point).sum().backward()
    return point.grad


def reference_pgd(loss, images, start, epsilon, steps, size):
    """Madry et al. 2018, written out."""
    adversarial = torch.clamp(images + start, 0, 1)
    for _ in range(steps):
        adversarial = adversarial.detach() + size * gradient_of(loss, adversarial).sign()
        adversarial = torch.clamp(images + torch.clamp(adversarial - images, -epsilon, epsilon), 0, 1)
    return adversarial


def attacked(config, loss, images, own=None):
    return attack(config, Batch(loss, images, streams() if own is None else own))


def test_pgd_is_the_reference_loop(loss, images):
    start = Threat("linf", EPSILON).draw(images, streams())
    ours = attacked(TrainPgd(epsilon=EPSILON, steps=5, step_size=2 / 255), loss, images)
    assert torch.allclose(ours, reference_pgd(loss, images, start, EPSILON, 5, 2 / 255), atol=1e-7)


def test_pgd_in_l2_is_the_reference_loop(loss, images):
    point, inner = images.clone(), images * 0.5 + 0.25
    point = inner
    for _ in range(3):
        gradient = gradient_of(loss, point)
        delta = point + 0.1 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1) - inner
        point = inner + delta * (0.2 / delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).clamp(max=1)
    ours = pgd(loss, inner, torch.zeros_like(inner), Threat("l2", 0.2), 3, 0.1)
    assert torch.allclose(ours, point, atol=1e-6)


def test_fgsm_rs_is_its_formula(loss, images):
    start = Threat("linf", EPSILON).draw(images, streams())
    noisy = (images + start).clamp(0, 1)
    delta = (noisy - images + 1.25 * EPSILON * gradient_of(loss, noisy).sign()).clamp(-EPSILON, EPSILON)
    ours = attacked(FgsmRs(epsilon=EPSILON), loss, images)
    assert torch.allclose(ours, (images + delta).clamp(0, 1), atol=1e-7)


def test_n_fgsm_is_its_formula_and_leaves_the_ball(loss, images):
    noisy = (images + Threat("linf", 2 * EPSILON).draw(images, streams())).clamp(0, 1)
    expected = (noisy + EPSILON * gradient_of(loss, noisy).sign()).clamp(0, 1)
    ours = attacked(NFgsm(epsilon=EPSILON), loss, images)
    assert torch.allclose(ours, expected, atol=1e-7)
    assert 2 * EPSILON < (ours - images).abs().max() <= 3 * EPSILON + 1e-6


def test_without_a_random_start_one_step_of_pgd_is_fgsm(loss, images):
    ours = attacked(TrainPgd(epsilon=EPSILON, steps=1, random_start=False), loss, images)
    expected = (images + EPSILON * gradient_of(loss, images).sign()).clamp(0, 1)
    assert torch.allclose(ours, expected, atol=1e-7)


@pytest.mark.parametrize("kind", [FgsmRs, NFgsm, TrainPgd])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_raises_the_loss_more_than_noise_and_stays_in_the_pixel_range(loss, images, kind, norm):
    epsilon = EPSILON if norm == "linf" else 0.5
    found = attacked(kind(norm=norm, epsilon=epsilon), loss, images)
    noise = (images + Threat(norm, 2 * epsilon).draw(images, streams())).clamp(0, 1)
    assert (loss(found) > loss(images)).all()
    assert loss(found).mean() > loss(noise).mean()
    assert found.min() >= 0
    assert found.max() <= 1
    if kind is not NFgsm:
        assert (Threat(norm, epsilon).project(found, images) - found).abs().max() < 1e-6


def test_none_returns_the_clean_images(loss, images):
    assert attacked(NoAttack(), loss, images) is images


def test_epsilon_zero_returns_the_clean_images(loss, images):
    assert torch.equal(attacked(TrainPgd(epsilon=0.0), loss, images), images)


def test_parameters_get_no_gradient_and_the_result_is_detached(net, loss, images):
    found = attacked(TrainPgd(epsilon=EPSILON), loss, images)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not found.requires_grad
    assert not images.requires_grad


def test_an_image_is_attacked_alike_in_any_batch(net, images):
    labels = torch.arange(10) % 5

    def run(part):
        part_loss = lambda x: cross_entropy(net(x), labels[part], reduction="none")  # noqa: E731
        return attacked(TrainPgd(epsilon=EPSILON, steps=3), part_loss, images[part], streams()[part])

    apart = torch.cat([run(slice(0, 4)), run(slice(4, 10))])
    assert torch.allclose(run(slice(0, 10)), apart, atol=1e-6)


def test_normalised_images_are_refused(loss, images):
    with pytest.raises(ValueError, match="normalisation belongs inside the model"):
        attacked(TrainPgd(), loss, (images - 0.5) / 0.5)
