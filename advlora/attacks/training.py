"""From a `TrainingAttackConfig` to attacked images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from advlora.attacks.gradient import PerSample, fgsm_rs, n_fgsm, pgd
from advlora.attacks.threat import Threat
from advlora.config import TrainingAttackConfig

NOISE_RADIUS = 2.0
"""Radius of N-FGSM's noise in epsilons (de Jorge et al. 2022, section 4)."""


def attack(
    config: TrainingAttackConfig, loss: PerSample, images: Tensor, generators: Iterable[torch.Generator]
) -> Tensor:
    """Attacks a batch.

    Args:
        config: Kind, radius and steps.
        loss: What training minimises, per sample; the attacker maximises it.
        images: Clean, `(B, 3, H, W)` in [0, 1].
        generators: One per image, for the random start.

    Returns:
        Images in [0, 1], detached; the clean ones for kind `none`.
    """
    if config.kind == "none":
        return images
    threat = Threat(config.norm, config.epsilon)
    ball = Threat(config.norm, NOISE_RADIUS * config.epsilon) if config.kind == "n_fgsm" else threat
    start = ball.draw(images, generators) if config.random_start else torch.zeros_like(images)
    if config.kind == "n_fgsm":
        return n_fgsm(loss, images, start, threat, step_size(config))
    if config.kind == "fgsm_rs":
        return fgsm_rs(loss, images, start, threat, step_size(config))
    return pgd(loss, images, start, threat, config.steps, step_size(config))


def step_size(config: TrainingAttackConfig) -> float:
    """Returns the step that is in force: the configured one, or the attack's standard."""
    if config.step_size is not None:
        return config.step_size
    standard = {"fgsm_rs": 1.25, "n_fgsm": 1.0, "none": 0.0}
    return standard.get(config.kind, min(2.5 / config.steps, 1.0)) * config.epsilon


def gradient_steps(config: TrainingAttackConfig) -> int:
    """Returns how many input gradients the attack takes."""
    return {"none": 0, "fgsm_rs": 1, "n_fgsm": 1}.get(config.kind, config.steps)
