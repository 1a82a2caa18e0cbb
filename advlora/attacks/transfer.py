"""Transfer attacks: they follow the gradients of a surrogate and meet the evaluated model only at the end."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from advlora.attacks.case import Case, Classifier, probe
from advlora.attacks.objectives import TINY
from advlora.attacks.registry import on_classes
from advlora.config.evaluation_attacks import Di, Mi

DECAY = 1.0
"""mu of MI-FGSM (Dong et al. 2018, section 4.1)."""
DIVERSE = 0.5
"""Probability that DI-FGSM transforms the input (Xie et al. 2019, section 4.1)."""
SMALLEST = 0.9
"""To which share of its side an image is shrunk at most."""


@on_classes(Mi)
def _mi(case: Case, attack: Mi, _: int) -> Tensor:
    return momentum(case, attack.objective, attack.steps, attack.step(case.threat.epsilon), diverse=False)


@on_classes(Di)
def _di(case: Case, attack: Di, _: int) -> Tensor:
    return momentum(case, attack.objective, attack.steps, attack.step(case.threat.epsilon), diverse=True)


def momentum(case: Case, loss: str, steps: int, step_size: float, *, diverse: bool) -> Tensor:
    """MI-FGSM (Dong et al. 2018, algorithm 1), or M-DI2-FGSM (Xie et al. 2019) with input diversity.

    Only the last point counts: the attacker does not see the evaluated model.

    Args:
        case: The batch; without a surrogate the evaluated model takes its place.
        loss: The attacker's objective.
        steps: Number of gradients.
        step_size: Length of a step in the threat's norm.
        diverse: Whether every image is shrunk and shifted at random before it is classified.

    Returns:
        `(B,)`, whether the images withstand.
    """
    source, point, velocity = case.surrogate or case.classify, case.images, torch.zeros_like(case.images)
    for _ in range(steps):
        seen = _shaken(source, _views(case)) if diverse else source
        gradient = probe(seen, point, case.labels, loss).gradient
        velocity = DECAY * velocity + gradient / gradient.abs().mean((1, 2, 3), keepdim=True).clamp_min(TINY)
        point = case.threat.project(point + step_size * case.threat.direction(velocity), case.images)
    with torch.no_grad():
        return case.classify(point).argmax(1) == case.labels


def _views(case: Case) -> Tensor:
    """Draws `(B, 2, 3)`: the affine map from the places of the shrunk image to those of the whole one."""
    drawn = torch.stack([torch.rand(4, generator=source) for source in case.generators]).to(case.images)
    side = torch.where(drawn[:, 0] < DIVERSE, SMALLEST + (1 - SMALLEST) * drawn[:, 1], 1.0)
    shift = (2 * drawn[:, 2:] - 1) * (1 - side[:, None])
    scale = torch.diag_embed(torch.stack([1 / side, 1 / side], dim=1))
    return torch.cat([scale, -(shift / side[:, None])[:, :, None]], dim=2)


def _shaken(classify: Classifier, views: Tensor) -> Classifier:
    def classify_shaken(points: Tensor) -> Tensor:
        grid = affine_grid(views, list(points.shape), align_corners=False)
        return classify(grid_sample(points, grid, align_corners=False))

    return classify_shaken
