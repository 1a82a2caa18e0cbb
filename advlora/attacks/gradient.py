"""Gradient attacks on any loss. They differentiate with respect to the images; parameters get no gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from advlora.attacks.threat import Threat, check_range

PerSample = Callable[[Tensor], Tensor]
"""Images `(B, 3, H, W)` -> what the attacker maximises, `(B,)`."""


def input_gradient(loss: PerSample, images: Tensor) -> Tensor:
    """Returns the gradient of each image's loss with respect to that image, `(B, 3, H, W)`."""
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss(images).sum(), images)
    return gradient


def pgd(loss: PerSample, images: Tensor, start: Tensor, threat: Threat, steps: int, step_size: float) -> Tensor:
    """Projected gradient ascent (Madry et al. 2018, equation 2.3).

    Args:
        loss: To be maximised.
        images: Clean, `(B, 3, H, W)` in [0, 1].
        start: Perturbation to start from, `(B, 3, H, W)`; zeros for none.
        threat: The ball that every iterate is projected into.
        steps: Number of gradients.
        step_size: Length of a step in the threat's norm.

    Returns:
        The last iterate.
    """
    check_range(images)
    point = threat.project(images + start, images)
    for _ in range(steps):
        step = step_size * threat.direction(input_gradient(loss, point))
        point = threat.project(point + step, images)
    return point


def fgsm_rs(loss: PerSample, images: Tensor, start: Tensor, threat: Threat, step_size: float) -> Tensor:
    """FGSM from a random start (Wong et al. 2020, algorithm 3): one step of PGD, usually of 1.25 epsilon."""
    return pgd(loss, images, start, threat, 1, step_size)


def n_fgsm(loss: PerSample, images: Tensor, noise: Tensor, threat: Threat, step_size: float) -> Tensor:
    """Noise-FGSM (de Jorge et al. 2022, algorithm 1): x + eta + alpha sign(grad at x + eta), not clipped to the ball.

    Args:
        loss: To be maximised.
        images: Clean, `(B, 3, H, W)` in [0, 1].
        noise: eta, usually uniform in the ball of radius 2 epsilon.
        threat: Gives the norm only.
        step_size: alpha, usually epsilon.
    """
    check_range(images)
    noisy = (images + noise).clamp(0, 1)
    return (noisy + step_size * threat.direction(input_gradient(loss, noisy))).clamp(0, 1)
