"""A perturbation that all images share (AdvCLIP-LoRA, Ghiasvand et al. 2025, algorithm 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from advlora.attacks.gradient import PerSample
from advlora.attacks.registry import in_training
from advlora.attacks.threat import TINY, Threat, check_range
from advlora.attacks.training import Batch
from advlora.config.training_attacks import Universal
from advlora.randomness import Streams


@in_training(Universal)
def universal(config: Universal, batch: Batch) -> Tensor:
    """Improves the perturbation of the epoch by some steps and applies it.

    Every batch continues the ascent of the last one; an epoch starts over. The published code steps along the raw
    gradient; here the step has a fixed length in the threat's norm, as in the universal adversarial training of Shafahi
    et al. (2020, algorithm 3).

    Args:
        config: Radius and steps.
        batch: Its loss is summed over the whole batch, over all processes.

    Returns:
        `(b, 3, H, W)` in [0, 1].
    """
    check_range(batch.images)
    threat, epoch = Threat(config.norm, config.epsilon), batch.epoch
    delta = _start(config, batch, threat) if epoch.perturbation is None else epoch.perturbation  # (1, 3, H, W)
    for _ in range(config.steps):
        gradient = epoch.group.sum(_gradient(batch.loss, batch.images, delta))
        delta = _inside(delta + config.step_size_in_force * threat.direction(gradient), threat)
    epoch.perturbation = delta
    return (batch.images + delta).clamp(0, 1)


def _start(config: Universal, batch: Batch, threat: Threat) -> Tensor:
    images = batch.images
    # A process without images of its own still takes part in the sums, and so needs a perturbation of their shape.
    blank = torch.zeros_like(images[:1]) if len(images) else images.new_zeros(1, *images.shape[1:])
    if not config.random_start:
        return blank
    whole = torch.zeros(1, dtype=torch.int64, device=images.device)  # one draw, whatever the samples
    return threat.draw(blank, Streams.of(batch.epoch.seed, "universal", batch.epoch.number, samples=whole))


def _gradient(loss: PerSample, images: Tensor, delta: Tensor) -> Tensor:
    """Returns the gradient of the summed loss with respect to the shared perturbation, `(1, 3, H, W)`."""
    point = delta.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss((images + point).clamp(0, 1)).sum(), point)
    return gradient


def _inside(delta: Tensor, threat: Threat) -> Tensor:
    """Projects into the ball alone: the pixel range differs from image to image and is kept when it is applied."""
    if threat.norm == "linf":
        return delta.clamp(-threat.epsilon, threat.epsilon)
    length = torch.linalg.vector_norm(delta)
    shorter: Tensor = delta * (threat.epsilon / length.clamp_min(TINY)).clamp_max(1)
    return shorter
