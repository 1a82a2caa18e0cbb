from __future__ import annotations

import pytest
import torch

from advlora.attacks import Threat, check_range
from advlora.randomness import Streams

pytestmark = pytest.mark.unit

BALLS = [Threat("linf", 8 / 255), Threat("linf", 0.5), Threat("l2", 0.5), Threat("l2", 3.0)]


def images(count=6, seed=0):
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def length(delta, norm):
    return delta.abs().amax((1, 2, 3)) if norm == "linf" else delta.flatten(1).norm(dim=1)


def streams(count, first=0):
    return Streams.of(0, "test", samples=first + torch.arange(count))


@pytest.mark.parametrize("ball", BALLS)
def test_a_projected_point_lies_in_the_ball_and_in_the_pixel_range(ball):
    clean = images()
    far = clean + torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    point = ball.project(far, clean)
    assert (length(point - clean, ball.norm) <= ball.epsilon + 1e-6).all()
    assert point.min() >= 0
    assert point.max() <= 1


@pytest.mark.parametrize("ball", BALLS)
def test_projection_leaves_points_inside_alone(ball):
    clean = images() * 0.5 + 0.25
    near = clean + 1e-3
    assert torch.allclose(ball.project(near, clean), near, atol=1e-7)
    assert torch.equal(ball.project(clean, clean), clean)


def test_the_l2_projection_is_the_nearest_point_of_the_ball():
    clean = torch.full((1, 3, 8, 8), 0.5)
    delta = torch.zeros_like(clean)
    delta[0, 0, 0, 0], delta[0, 0, 0, 1] = 0.3, 0.4
    moved = Threat("l2", 0.25).project(clean + delta, clean) - clean
    assert torch.allclose(moved, delta / 2, atol=1e-6)


@pytest.mark.parametrize("ball", BALLS)
def test_noise_lies_in_the_ball_and_fills_it(ball):
    noise = ball.draw(images(64), streams(64))
    sizes = length(noise, ball.norm)
    assert (sizes <= ball.epsilon * (1 + 1e-6)).all()
    assert sizes.mean() > 0.95 * ball.epsilon  # most of the volume of a high-dimensional ball lies near its surface
    assert noise.mean().abs() < 0.05 * ball.epsilon


@pytest.mark.parametrize("ball", BALLS)
def test_the_noise_of_an_image_does_not_depend_on_its_batch(ball):
    together = ball.draw(images(6), streams(6))
    apart = torch.cat([ball.draw(images(2), streams(2, first)) for first in (0, 2, 4)])
    assert torch.equal(together, apart)
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("ball", BALLS)
def test_the_direction_is_the_steepest_ascent(ball):
    gradient = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    step = ball.direction(gradient)
    assert torch.allclose(length(step, ball.norm), torch.ones(4), atol=1e-5)
    dual = gradient.abs().sum((1, 2, 3)) if ball.norm == "linf" else gradient.flatten(1).norm(dim=1)
    assert torch.allclose((gradient * step).sum((1, 2, 3)), dual, rtol=1e-4)


@pytest.mark.parametrize("ball", BALLS)
def test_a_vanishing_gradient_gives_no_step(ball):
    assert torch.equal(ball.direction(torch.zeros(2, 3, 4, 4)), torch.zeros(2, 3, 4, 4))


@pytest.mark.parametrize("value", [-1e-3, 1.001, float("nan")])
def test_images_outside_the_pixel_range_are_refused(value):
    bad = images()
    bad[3, 1, 2, 2] = value
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        check_range(bad)


@pytest.mark.parametrize("ball", BALLS)
def test_a_video_is_perturbed_as_one_image(ball):
    videos = torch.rand(3, 2, 3, 6, 5, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    gradient = torch.randn(videos.shape, generator=torch.Generator().manual_seed(1))
    step = ball.direction(gradient)
    point = ball.project(videos + 10 * ball.epsilon * step, videos)
    whole = (point - videos).flatten(1)
    sizes = whole.abs().amax(1) if ball.norm == "linf" else whole.norm(dim=1)
    assert (sizes <= ball.epsilon * (1 + 1e-5)).all()
    assert ball.size(point - videos).shape == ball.dual(gradient).shape == (3,)
    torch.testing.assert_close(ball.size(point - videos), sizes)
    torch.testing.assert_close((gradient * step).flatten(1).sum(1), ball.dual(gradient), rtol=1e-4, atol=1e-4)
    noise = ball.draw(videos, streams(3))
    assert (ball.size(noise) <= ball.epsilon * (1 + 1e-5)).all()
