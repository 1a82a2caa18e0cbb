"""The evaluator's attacks: which images withstand one, counting every point that a white-box attacker visits."""

from __future__ import annotations

import torch
from torch import Tensor

from advlora.attacks.case import Case, Classifier
from advlora.attacks.finite import Watched
from advlora.attacks.objectives import likely_targets
from advlora.attacks.registry import on_classes
from advlora.attacks.threat import Threat, check_range
from advlora.config import EvaluationAttackConfig
from advlora.randomness import Streams


def withstands(
    classify: Classifier,
    images: Tensor,
    labels: Tensor,
    attack: EvaluationAttackConfig,
    epsilon: float,
    streams: Streams,
    surrogate: Classifier | None = None,
) -> Tensor:
    """Attacks a batch with all targets and restarts.

    One visited point that is misclassified breaks an image, and a broken image is attacked no further. Only the
    last point of a transfer attack counts.

    Args:
        classify: The model; normalisation inside.
        images: `(B, 3, H, W)` in [0, 1].
        labels: `(B,)`, int64.
        attack: A single attack; an ensemble has to be expanded first.
        epsilon: Radius of the ball.
        streams: The random numbers, one stream per image; every run takes a branch of them.
        surrogate: The model that a transfer attack follows; the evaluated one if there is none.

    Returns:
        `(B,)`, true for images that are classified correctly at every visited point.

    Raises:
        NotFinite: If logits or gradients are not finite.
    """
    check_range(images)
    evaluated = Watched(classify)
    followed = None if surrogate is None or not attack.transferred else Watched(surrogate)
    threat = Threat(attack.norm, epsilon)
    standing = torch.arange(len(images), device=images.device)
    targets = _targets(evaluated, images, labels, attack.target_count)  # (B, T)
    for run in range(attack.repeats * (targets.shape[1] if attack.target_count else 1)):
        if not len(standing):
            break
        target, restart = divmod(run, attack.repeats)
        aim = targets[standing, target] if attack.target_count else None
        branch = streams[standing].branch(run)
        case = Case(evaluated, images[standing], labels[standing], threat, branch, aim, followed)
        standing = standing[on_classes[attack](case, attack, restart)]
    for watched in (evaluated, *([followed] if followed is not None else [])):
        watched.check()
    return torch.isin(torch.arange(len(images), device=images.device), standing)


def _targets(classify: Classifier, images: Tensor, labels: Tensor, count: int) -> Tensor:
    if not count or not len(images):
        return labels.new_zeros(len(labels), 0)
    with torch.no_grad():
        return likely_targets(classify(images), labels, count)
