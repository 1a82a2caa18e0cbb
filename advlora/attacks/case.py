"""`Case`: what one run of an attack of the evaluation works on, and the rows that are left of it while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from advlora.attacks.objectives import is_right, objective
from advlora.attacks.threat import Threat
from advlora.randomness import Streams

Classifier = Callable[[Tensor], Tensor]
"""Images `(B, 3, H, W)` -> logits `(B, C)`."""


@dataclass(frozen=True)
class Case:
    """A batch and a threat.

    Attributes:
        classify: The evaluated model; normalisation inside.
        images: `(B, 3, H, W)` in [0, 1].
        labels: `(B,)`; for retrieval a mask of the right answers, see `objectives`.
        threat: The ball that the attacker may search.
        streams: One per image, so that its random numbers depend neither on the batch nor on the fate of other images.
        targets: `(B,)`, the classes that a targeted attack aims at.
        surrogate: The model whose gradients a transfer attack follows.
        relentless: Whether a broken image is attacked further, because it matters how far it is from right.
    """

    classify: Classifier
    images: Tensor
    labels: Tensor
    threat: Threat
    streams: Streams
    targets: Tensor | None = None
    surrogate: Classifier | None = None
    relentless: bool = False

    def places(self) -> Tensor:
        """Returns the position of every image in the batch, `(B,)`."""
        return torch.arange(len(self.images), device=self.images.device)

    def start(self) -> Tensor:
        """Returns a random point of every image's ball, `(B, 3, H, W)`."""
        return self.threat.project(self.images + self.threat.draw(self.images, self.streams), self.images)

    def standing(self, right: Tensor) -> Tensor:
        """Returns which images are to be attacked further, `(B',)`, of those that are right at a visited point."""
        return torch.ones_like(right) if self.relentless else right

    def mask(self, places: Tensor) -> Tensor:
        """Returns `(B,)`, true at the positions `places`, `(B',)`."""
        return torch.isin(self.places(), places)


@dataclass
class Rows:
    """The images that still stand, one row each in every tensor; the base of an attack's state.

    Attributes:
        place: Position in the case, `(B',)`.
        images: Clean, `(B', 3, H, W)`.
        labels: As those of the case, `(B',)`.
        targets: `(B',)`, of a targeted attack.
    """

    place: Tensor
    images: Tensor
    labels: Tensor
    targets: Tensor | None

    def keep(self, standing: Tensor) -> None:
        """Drops the rows that are false in `standing`, `(B',)`: a broken image is attacked no further."""
        if bool(standing.all()):
            return
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                setattr(self, field.name, value[standing])

    def __len__(self) -> int:
        return len(self.place)


@dataclass(frozen=True)
class Probe:
    """What the attacker learns at a point.

    Attributes:
        right: `(B,)`, whether it is classified correctly.
        value: `(B,)`, the objective.
        gradient: `(B, 3, H, W)`, of the objective; zeros where it was not asked for.
    """

    right: Tensor
    value: Tensor
    gradient: Tensor


def probe(
    classify: Classifier,
    points: Tensor,
    labels: Tensor,
    goal: str,
    targets: Tensor | None = None,
    gradient: bool = True,
) -> Probe:
    """Classifies points and differentiates an objective there.

    Args:
        classify: The model; normalisation inside.
        points: `(B, 3, H, W)`.
        labels: `(B,)`, or a mask of the right answers.
        goal: Name of the objective.
        targets: `(B,)`, for a targeted objective.
        gradient: Whether the gradient is wanted; without it a point costs one F instead of two.
    """
    with torch.set_grad_enabled(gradient):
        points = points.detach().requires_grad_(gradient)
        logits = classify(points)
        value = objective(goal, logits, labels, targets)
    slope = slope_at(value, points) if gradient else torch.zeros_like(points)
    return Probe(is_right(logits.detach(), labels), value.detach(), slope)


def slope_at(value: Tensor, points: Tensor, *, again: bool = False) -> Tensor:
    """Returns the gradient of each value with respect to its point.

    A model that passes no gradient to its input is attacked without direction rather than refused: the guards flag it.

    Args:
        value: `(B,)`.
        points: `(B, 3, H, W)`, a leaf of the graph.
        again: Whether the graph has to be kept for another call.

    Returns:
        `(B, 3, H, W)`.
    """
    if not value.requires_grad:
        return torch.zeros_like(points)
    # Images do not mix, so the gradient of the sum holds every image's own.
    (gradient,) = torch.autograd.grad(value.sum(), points, allow_unused=True, retain_graph=again)
    return torch.zeros_like(points) if gradient is None else gradient
