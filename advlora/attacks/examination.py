"""The examiner's attack: which images withstand PGD, counting every point that the attacker visits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from advlora.attacks.threat import Threat, check_range
from advlora.config import EvaluationAttackConfig
from advlora.randomness import generator

Classifier = Callable[[Tensor], Tensor]
"""Images `(B, 3, H, W)` -> logits `(B, C)`."""


def withstands(
    classify: Classifier,
    images: Tensor,
    labels: Tensor,
    attack: EvaluationAttackConfig,
    epsilon: float,
    names: Sequence[tuple[int | str, ...]],
) -> Tensor:
    """Attacks a batch with all restarts.

    The attacker keeps the best it finds per image: one visited point that is misclassified suffices. Images that are
    broken are attacked no further.

    Args:
        classify: The model; normalisation inside.
        images: `(B, 3, H, W)` in [0, 1].
        labels: `(B,)`, int64.
        attack: Loss, norm, steps and restarts.
        epsilon: Radius of the ball.
        names: One per image; each names its random starts.

    Returns:
        `(B,)`, true for images that are classified correctly at every visited point.
    """
    check_range(images)
    standing = torch.arange(len(images), device=images.device)
    for restart in range(attack.restarts):
        if not len(standing):
            break
        generators = [generator(*names[position], restart) for position in standing.tolist()]
        kept = _one_run(classify, images[standing], labels[standing], attack, epsilon, generators)
        standing = standing[kept]
    return torch.isin(torch.arange(len(images), device=images.device), standing)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the best wrong logit minus the right one, `(B,)` (Carlini & Wagner 2017, section IV-A, f6)."""
    right = one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(right, -torch.inf).amax(1) - logits[right]


def _one_run(
    classify: Classifier,
    images: Tensor,
    labels: Tensor,
    attack: EvaluationAttackConfig,
    epsilon: float,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Returns the positions of the images that withstand one run of PGD."""
    threat, size = Threat(attack.norm, epsilon), step_size(attack, epsilon)
    standing = torch.arange(len(images), device=images.device)
    points = threat.project(images + threat.draw(images, generators), images)
    for step in range(attack.steps + 1):
        last = step == attack.steps
        right, gradient = _probe(classify, points, labels[standing], attack.loss, gradient=not last)
        standing, points, gradient = standing[right], points[right], gradient[right]
        if last or not len(standing):
            break
        points = threat.project(points + size * threat.direction(gradient), images[standing])
    return standing


def _probe(classify: Classifier, points: Tensor, labels: Tensor, kind: str, gradient: bool) -> tuple[Tensor, Tensor]:
    """Returns which points are classified correctly, and the input gradient of the attacker's loss."""
    with torch.set_grad_enabled(gradient):
        points = points.detach().requires_grad_(gradient)
        logits = classify(points)
        right = logits.argmax(1) == labels
        if not gradient:
            return right, points
        loss = margin(logits, labels) if kind == "margin" else cross_entropy(logits, labels, reduction="none")
        return right, torch.autograd.grad(loss.sum(), points)[0]


def step_size(attack: EvaluationAttackConfig, epsilon: float) -> float:
    """Returns the configured step, or 2.5 epsilon / steps, at most epsilon."""
    return min(2.5 * epsilon / attack.steps, epsilon) if attack.step_size is None else attack.step_size
