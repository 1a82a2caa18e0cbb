from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from advlora.attacks import Threat, attack, gradient_steps, pgd
from advlora.attacks.training import step_size
from advlora.config import TrainingAttackConfig
from advlora.randomness import generator

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


def sources(count=10):
    return [generator(7, "attack", index) for index in range(count)]


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


def config(**values):
    return TrainingAttackConfig(**{"epsilon": EPSILON, **values})


def test_pgd_is_the_reference_loop(loss, images):
    start = Threat("linf", EPSILON).draw(images, sources())
    ours = attack(config(kind="pgd", steps=5, step_size=2 / 255), loss, images, sources())
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
    start = Threat("linf", EPSILON).draw(images, sources())
    noisy = (images + start).clamp(0, 1)
    delta = (noisy - images + 1.25 * EPSILON * gradient_of(loss, noisy).sign()).clamp(-EPSILON, EPSILON)
    ours = attack(config(kind="fgsm_rs"), loss, images, sources())
    assert torch.allclose(ours, (images + delta).clamp(0, 1), atol=1e-7)


def test_n_fgsm_is_its_formula_and_leaves_the_ball(loss, images):
    noisy = (images + Threat("linf", 2 * EPSILON).draw(images, sources())).clamp(0, 1)
    expected = (noisy + EPSILON * gradient_of(loss, noisy).sign()).clamp(0, 1)
    ours = attack(config(kind="n_fgsm"), loss, images, sources())
    assert torch.allclose(ours, expected, atol=1e-7)
    assert 2 * EPSILON < (ours - images).abs().max() <= 3 * EPSILON + 1e-6


def test_without_a_random_start_one_step_of_pgd_is_fgsm(loss, images):
    ours = attack(config(kind="pgd", steps=1, random_start=False), loss, images, sources())
    expected = (images + EPSILON * gradient_of(loss, images).sign()).clamp(0, 1)
    assert torch.allclose(ours, expected, atol=1e-7)


@pytest.mark.parametrize("kind", ["fgsm_rs", "n_fgsm", "pgd"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_raises_the_loss_more_than_noise_and_stays_in_the_pixel_range(loss, images, kind, norm):
    epsilon = EPSILON if norm == "linf" else 0.5
    settings = config(kind=kind, norm=norm, epsilon=epsilon, steps=3)
    attacked = attack(settings, loss, images, sources())
    noise = (images + Threat(norm, 2 * epsilon).draw(images, sources())).clamp(0, 1)
    assert (loss(attacked) > loss(images)).all()
    assert loss(attacked).mean() > loss(noise).mean()
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    if kind != "n_fgsm":
        assert (Threat(norm, epsilon).project(attacked, images) - attacked).abs().max() < 1e-6


def test_none_returns_the_clean_images(loss, images):
    assert attack(config(kind="none"), loss, images, sources()) is images


def test_epsilon_zero_returns_the_clean_images(loss, images):
    assert torch.equal(attack(config(kind="pgd", epsilon=0.0), loss, images, sources()), images)


def test_parameters_get_no_gradient_and_the_result_is_detached(net, loss, images):
    attacked = attack(config(kind="pgd", steps=2), loss, images, sources())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not attacked.requires_grad
    assert not images.requires_grad


def test_an_image_is_attacked_alike_in_any_batch(net, images):
    labels = torch.arange(10) % 5

    def run(part):
        part_loss = lambda x: cross_entropy(net(x), labels[part], reduction="none")  # noqa: E731
        return attack(config(kind="pgd", steps=3), part_loss, images[part], sources()[part])

    apart = torch.cat([run(slice(0, 4)), run(slice(4, 10))])
    assert torch.allclose(run(slice(0, 10)), apart, atol=1e-6)


def test_normalised_images_are_refused(loss, images):
    with pytest.raises(ValueError, match="normalisation belongs inside the model"):
        attack(config(kind="pgd"), loss, (images - 0.5) / 0.5, sources())


@pytest.mark.parametrize(
    ("kind", "steps", "size", "gradients"),
    [("pgd", 2, 1.0, 2), ("pgd", 10, 0.25, 10), ("fgsm_rs", 7, 1.25, 1), ("n_fgsm", 7, 1.0, 1), ("none", 7, 0.0, 0)],
)
def test_standard_steps(kind, steps, size, gradients):
    settings = config(kind=kind, steps=steps)
    assert step_size(settings) == pytest.approx(size * EPSILON)
    assert gradient_steps(settings) == gradients
    assert step_size(config(kind=kind, steps=steps, step_size=0.01)) == 0.01
