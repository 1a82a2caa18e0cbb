"""Transfer attacks: they follow the gradients of a surrogate and meet the evaluated model only at the end."""

from __future__ import annotations

import torch
from torch import Tensor

from advlora.attacks.case import Case, Classifier, probe
from advlora.attacks.objectives import TINY
from advlora.attacks.registry import on_classes
from advlora.config.evaluation_attacks import Di, Mi

DECAY = 1.0
"""mu of MI-FGSM (Dong et al. 2018, section 4.1)."""
DIVERSE = 0.5
"""Probability that DI-FGSM transforms the input (Xie et al. 2019, section 4.1)."""
SMALLEST = 0.9
"""Smallest side of a shrunk image, as a share of the whole."""


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
        case: The batch. Without a surrogate the gradients are those of the evaluated model.
        loss: The attacker's objective.
        steps: Number of gradients.
        step_size: Length of a step in the threat's norm.
        diverse: Whether every image is shrunk and shifted at random before it is classified.

    Returns:
        `(B,)`, whether the images withstand.
    """
    source, point, velocity = case.surrogate or case.classify, case.images, torch.zeros_like(case.images)
    for step in range(steps):
        seen = _shaken(source, _views(case, step)) if diverse else source
        gradient = probe(seen, point, case.labels, loss).gradient  # (B, 3, H, W)
        # Mean instead of the paper's sum of magnitudes: it scales all terms alike and leaves the direction as it is.
        velocity = DECAY * velocity + gradient / gradient.abs().mean((1, 2, 3), keepdim=True).clamp_min(TINY)
        point = case.threat.project(point + step_size * case.threat.direction(velocity), case.images)
    with torch.no_grad():
        return case.classify(point).argmax(1) == case.labels


def _views(case: Case, step: int) -> Tensor:
    """Draws `(B, 2, 3)` for a step: per image the affine map from places in its shrunk view to places in the image.

    A view that is left as it is has the identity as its map.
    """
    drawn = case.streams.branch(step).uniform(4).to(case.images)  # (B, 4)
    side = torch.where(drawn[:, 0] < DIVERSE, SMALLEST + (1 - SMALLEST) * drawn[:, 1], 1.0)  # (B,)
    shift = (2 * drawn[:, 2:] - 1) * (1 - side[:, None])  # (B, 2), within the border that shrinking leaves
    scale = torch.diag_embed(torch.stack([1 / side, 1 / side], dim=1))  # (B, 2, 2)
    # A place p of the view shows the place (p - shift) / side of the image.
    return torch.cat([scale, -(shift / side[:, None])[:, :, None]], dim=2)


def _shaken(classify: Classifier, views: Tensor) -> Classifier:
    """Returns a classifier that sees every image through its view, zeros around it."""

    def classify_shaken(points: Tensor) -> Tensor:
        across, down = (_resampling(views[:, i, i], views[:, i, 2], points.shape[-1 - i]) for i in (0, 1))
        return classify(down[:, None] @ points @ across[:, None].mT)  # (B, 1, H, H) @ (B, 3, H, W) @ (B, 1, W, W)

    return classify_shaken


def _resampling(scale: Tensor, shift: Tensor, size: int) -> Tensor:
    """Returns how much of each pixel of an axis a pixel of the view shows, `(B, S, S)`, in bilinear interpolation.

    A view treats rows and columns apart, so two matrix products do what `grid_sample` does, whose gradient has no
    deterministic kernel on a GPU.

    Args:
        scale: `(B,)`, of the affine map along the axis, from the view to the image, both in [-1, 1].
        shift: `(B,)`.
        size: Number of pixels S of the axis.
    """
    pixels = torch.arange(size, device=scale.device)
    seen = scale[:, None] * ((2 * pixels + 1) / size - 1) + shift[:, None]  # (B, S), where a pixel of the view looks
    places = ((seen + 1) * size - 1) / 2  # (B, S), in pixels of the image
    return (1 - (places[:, :, None] - pixels).abs()).clamp_min(0)  # (B, S, 1) - (S,) -> (B, S, S)
