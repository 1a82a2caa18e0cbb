from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from advlora.attacks import Threat, margin, withstands
from advlora.config.evaluation_attacks import Pgd
from advlora.randomness import Streams

pytestmark = pytest.mark.unit

COUNT, EPSILON = 40, 0.03


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.GELU(), nn.Linear(32, 4)).requires_grad_(True)


@pytest.fixture
def images():
    return torch.rand(COUNT, 3, 8, 8, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def labels(net, images):
    return net(images).argmax(1)


STREAMS = Streams.of(0, "examination", samples=torch.arange(COUNT))


def withstood(net, images, labels, epsilon=EPSILON, streams=STREAMS, **values):
    return withstands(net, images, labels, Pgd(**values), epsilon, streams)


def reference(net, images, labels, attack, epsilon):
    """Image by image, every visited point, nothing dropped early."""
    kept = []
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        image, label, right = image[None], label[None], True
        for restart in range(attack.restarts):
            noise = Threat("linf", epsilon).draw(image, STREAMS[place : place + 1].branch(restart))
            point = (image + noise).clamp(0, 1)
            for _ in range(attack.steps):
                point = point.detach().requires_grad_()
                logits = net(point)
                right &= bool(logits.argmax(1) == label)
                cross_entropy(logits, label).backward()
                moved = point.detach() + attack.step(epsilon) * point.grad.sign()
                point = (image + (moved - image).clamp(-epsilon, epsilon)).clamp(0, 1)
            right &= bool(net(point).argmax(1) == label)
        kept.append(right)
    return torch.tensor(kept)


def test_it_is_the_reference_written_out_image_by_image(net, images, labels):
    expected = reference(net, images, labels, Pgd(steps=4, restarts=2), EPSILON)
    assert 0 < expected.sum() < COUNT
    assert torch.equal(withstood(net, images, labels, steps=4, restarts=2), expected)


def test_a_gradient_breaks_more_than_noise(net, images, labels):
    noise = Threat("linf", EPSILON).draw(images, STREAMS)
    noisy = (net((images + noise).clamp(0, 1)).argmax(1) == labels).float().mean()
    assert withstood(net, images, labels, steps=5).float().mean() < noisy - 0.2


def test_more_steps_restarts_and_radius_never_help_the_model(net, images, labels):
    one, three = withstood(net, images, labels, steps=3), withstood(net, images, labels, steps=3, restarts=3)
    assert (three <= one).all()
    larger = withstood(net, images, labels, epsilon=2 * EPSILON, steps=3)
    assert larger.sum() < one.sum()


def test_no_image_withstands_a_wrong_label(net, images, labels):
    assert not withstood(net, images, (labels + 1) % 4, steps=1).any()


@pytest.mark.parametrize("values", [{"loss": "margin"}, {"norm": "l2"}, {"loss": "margin", "norm": "l2"}])
def test_other_losses_and_norms_break_images_too(net, images, labels, values):
    epsilon = EPSILON if "norm" not in values else 0.4
    kept = withstood(net, images, labels, epsilon=epsilon, steps=5, **values)
    assert 0 < kept.sum() < COUNT


def test_the_margin_is_that_of_the_best_wrong_class():
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    assert margin(logits, torch.tensor([0, 2])).tolist() == [-1.0, 1.0]


def test_the_margin_sees_what_saturated_cross_entropy_cannot(net, images, labels):
    def saturated(points):
        return 1e4 * net(points)

    by_entropy = withstood(saturated, images, labels, steps=5)
    by_margin = withstood(saturated, images, labels, steps=5, loss="margin")
    assert by_margin.sum() < by_entropy.sum()


def test_an_image_fares_alike_in_any_batch(net, images, labels):
    whole = withstood(net, images, labels, steps=3)
    for size in (1, 7):
        parts = [
            withstood(net, images[i : i + size], labels[i : i + size], streams=STREAMS[i : i + size], steps=3)
            for i in range(0, COUNT, size)
        ]
        assert torch.equal(torch.cat(parts), whole)


def test_parameters_get_no_gradient(net, images, labels):
    withstood(net, images, labels, steps=2)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_an_empty_batch_is_no_problem(net, images, labels):
    assert withstood(net, images[:0], labels[:0], streams=STREAMS[:0]).shape == (0,)


def test_normalised_images_are_refused(net, images, labels):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        withstood(net, images * 2 - 1, labels)


def test_the_standard_step_is_never_longer_than_epsilon():
    assert Pgd(steps=10).step(0.1) == pytest.approx(0.025)
    assert Pgd(steps=1).step(0.1) == 0.1
    assert Pgd(steps=1, step_size=0.3).step(0.1) == 0.3
