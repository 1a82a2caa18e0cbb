"""FAB, the fast adaptive boundary attack (Croce & Hein 2020b): looks for the nearest point beyond the boundary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advlora.attacks.case import Case, Rows, slope_at
from advlora.attacks.objectives import TINY, lead
from advlora.attacks.registry import on_classes
from advlora.attacks.threat import Threat
from advlora.config.evaluation_attacks import Fab, FabT

TOWARDS_IMAGE = 0.1
"""alpha_max: largest weight of the step taken from the clean image (equation 9)."""
OVERSHOOT = 1.05
"""eta: how far beyond the linearised boundary a step goes."""
BACKWARD = 0.9
"""beta: a misclassified point keeps this share of its distance to the clean image (equation 11)."""


@dataclass
class _Walk(Rows):
    """The state of algorithm 1: the current point of every image."""

    point: Tensor


@on_classes(Fab, FabT)
def _run(case: Case, attack: Fab | FabT, restart: int) -> Tensor:
    return fab(case, attack.steps, random_start=restart > 0)


def fab(case: Case, steps: int, *, random_start: bool) -> Tensor:
    """Returns which images are classified correctly at every visited point within the ball, `(B,)`.

    With `case.targets` each image walks towards the boundary to its target class (FAB-T). Without, it walks towards the
    nearest of all boundaries, which costs a gradient per class.

    Args:
        case: The batch.
        steps: Number of steps.
        random_start: Whether the walk starts at a random point of the ball of half the radius or at the image.
    """
    half = Threat(case.threat.norm, case.threat.epsilon / 2)
    noise = half.draw(case.images, case.streams) if random_start else torch.zeros_like(case.images)
    walk = _Walk(case.places(), case.images, case.labels, case.targets, (case.images + noise).clamp(0, 1))
    for _ in range(steps):
        right, height, normal = _boundary(case, walk)  # (B,), (B,), (B, 3, H, W)
        point = _step(walk, height, normal, case.threat)
        # A walk leaves the ball freely: only what it finds inside counts.
        broken = ~right & _inside(walk.point, walk, case.threat)
        with torch.no_grad():
            right = case.classify(point).argmax(1) == walk.labels
        broken |= ~right & _inside(point, walk, case.threat)
        walk.point = torch.where(right[:, None, None, None], point, walk.images + BACKWARD * (point - walk.images))
        walk.keep(~broken)
        if not len(walk):
            break
    return case.mask(walk.place)


def _inside(point: Tensor, walk: _Walk, threat: Threat) -> Tensor:
    return threat.size(point - walk.images) <= threat.epsilon


def _boundary(case: Case, walk: _Walk) -> tuple[Tensor, Tensor, Tensor]:
    """Linearises the boundary at the current points.

    Returns:
        Whether the points are classified correctly, `(B,)`; how far the wrong class leads there, `(B,)`, negative while
        the point is on the right side; the gradient of that lead, `(B, 3, H, W)`, which is normal to the boundary.
    """
    with torch.enable_grad():
        point = walk.point.detach().requires_grad_()
        logits = case.classify(point)  # (B, C)
        right = logits.argmax(1) == walk.labels
        if walk.targets is not None:
            height = lead(logits, walk.labels, walk.targets)
            return right, height.detach(), slope_at(height, point)
        nearest = torch.full_like(walk.labels, torch.inf, dtype=point.dtype)  # (B,)
        best_height, best_normal = torch.zeros_like(nearest), torch.zeros_like(point)
        for label in range(logits.shape[1]):
            height = lead(logits, walk.labels, torch.full_like(walk.labels, label))
            normal = slope_at(height, point, again=True)  # the graph serves the other classes too
            # Distance to a linear boundary in a norm: its height over the dual norm of its slope.
            distance = height.detach().abs() / case.threat.dual(normal).clamp_min(TINY)
            nearer = (distance < nearest) & (walk.labels != label)
            nearest = torch.where(nearer, distance, nearest)
            best_height = torch.where(nearer, height.detach(), best_height)
            best_normal = torch.where(nearer[:, None, None, None], normal, best_normal)
    return right, best_height, best_normal


def _step(walk: _Walk, height: Tensor, normal: Tensor, threat: Threat) -> Tensor:
    """Steps to the boundary from the current point and from the clean image, and mixes both (equation 9)."""
    behind = height + (normal * (walk.images - walk.point)).sum((1, 2, 3))  # (B,), the plane's value at the image
    from_point = to_plane(walk.point, normal, -height, threat)
    from_image = to_plane(walk.images, normal, -behind, threat)
    # The farther the point's own step, the more the image's step weighs: the walk stays near the image.
    own, other = threat.size(from_point).clamp_min(1e-8), threat.size(from_image).clamp_min(1e-8)
    weight = (own / (own + other)).clamp_max(TOWARDS_IMAGE)[:, None, None, None]  # (B, 1, 1, 1)
    mixed = (walk.point + OVERSHOOT * from_point) * (1 - weight) + (walk.images + OVERSHOOT * from_image) * weight
    return mixed.clamp(0, 1)


def to_plane(points: Tensor, normal: Tensor, gap: Tensor, threat: Threat) -> Tensor:
    """Returns the shortest move within [0, 1] that raises `normal . x` by `gap` (equations 4 and 5), exactly.

    In both norms the move is `clamp(s u, -x, 1 - x)` with `u` the sign of the normal (L-inf) or the normal itself (L2).
    Its gain rises with `s`, piecewise linearly, with a kink where a pixel meets its bound. If even the last kink does
    not suffice, all pixels go to their bounds.

    Args:
        points: `(B, 3, H, W)` in [0, 1].
        normal: `(B, 3, H, W)`.
        gap: `(B,)`.
        threat: Gives the norm.

    Returns:
        `(B, 3, H, W)`.
    """
    # P = 3HW pixels per image. A negative gap is a positive one along the opposite normal.
    start, slope = points.flatten(1), (normal * gap.sign()[:, None, None, None]).flatten(1)  # (B, P)
    way = slope.sign() if threat.norm == "linf" else slope  # (B, P), u
    room = torch.where(slope > 0, 1 - start, start)  # (B, P), how far each pixel may go
    kinks = torch.where(slope == 0, torch.inf, room / way.abs().clamp_min(1e-30))  # (B, P), s at which it is there
    kinks, order = kinks.sort(dim=1)
    rate = (slope * way).gather(1, order)  # (B, P), gain per unit of s before the kink
    full = (slope.abs() * room).gather(1, order)  # (B, P), gain at and after the kink
    # At the k-th kink the first k pixels have given all they have, and the others still gain at their rates.
    before, rest = full.cumsum(1) - full, rate.flip(1).cumsum(1).flip(1)  # (B, P)
    gained = before + torch.where(rest > 0, kinks * rest, 0)  # (B, P); inf * 0 at pixels without slope is left out
    # cummax: rounding must not make the gains fall, or the binary search would go astray.
    first = torch.searchsorted(gained.cummax(1).values, gap.abs()[:, None]).clamp_max(start.shape[1] - 1)  # (B, 1)
    scale = (gap.abs()[:, None] - before.gather(1, first)) / rest.gather(1, first).clamp_min(1e-30)  # (B, 1), s
    scale = scale.minimum(kinks.gather(1, first)).nan_to_num(posinf=1e30)
    return (scale * way).clamp(-start, 1 - start).view_as(points)  # (B, P) -> (B, 3, H, W)
