"""`Case`: what one run of an evaluating attack works on, and the rows that are left of it while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from advlora.attacks.objectives import objective
from advlora.attacks.threat import Threat

Classifier = Callable[[Tensor], Tensor]
"""Images `(B, 3, H, W)` -> logits `(B, C)`."""


@dataclass(frozen=True)
class Case:
    """A batch and a threat.

    Attributes:
        classify: The evaluated model; normalisation inside.
        images: `(B, 3, H, W)` in [0, 1].
        labels: `(B,)`.
        threat: The ball that the attacker may search.
        generators: One per image: its random numbers depend neither on the batch nor on what became of other images.
        targets: `(B,)`, the classes that a targeted attack aims at.
        surrogate: The model whose gradients a transfer attack follows.
    """

    classify: Classifier
    images: Tensor
    labels: Tensor
    threat: Threat
    generators: Sequence[torch.Generator]
    targets: Tensor | None = None
    surrogate: Classifier | None = None

    def places(self) -> Tensor:
        """Returns `0 .. B - 1`."""
        return torch.arange(len(self.images), device=self.images.device)

    def start(self) -> Tensor:
        """Returns a random point of every ball."""
        return self.threat.project(self.images + self.threat.draw(self.images, self.generators), self.images)

    def mask(self, places: Tensor) -> Tensor:
        """Returns `(B,)`, true at `places`."""
        return torch.isin(self.places(), places)


@dataclass
class Rows:
    """Images that still stand, one row each in every tensor; the base of an attack's state.

    Attributes:
        place: Position in the case.
    """

    place: Tensor
    images: Tensor
    labels: Tensor
    targets: Tensor | None

    def keep(self, standing: Tensor) -> None:
        """Drops the rows that are false in `standing`, `(B,)`: a broken image is attacked no further."""
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
        labels: `(B,)`.
        goal: Name of the objective.
        targets: `(B,)`, for a targeted objective.
        gradient: Whether the gradient is wanted; without it a point costs one F instead of two.
    """
    with torch.set_grad_enabled(gradient):
        points = points.detach().requires_grad_(gradient)
        logits = classify(points)
        value = objective(goal, logits, labels, targets)
    slope = slope_at(value, points) if gradient else torch.zeros_like(points)
    return Probe(logits.argmax(1) == labels, value.detach(), slope)


def slope_at(value: Tensor, points: Tensor, *, again: bool = False) -> Tensor:
    """Returns the gradient of each value with respect to its point.

    A model that passes no gradient on to its input is searched without direction, not refused: the guards report it.

    Args:
        value: `(B,)`.
        points: `(B, 3, H, W)`, leaf of the graph.
        again: Whether the graph is needed once more.
    """
    if not value.requires_grad:
        return torch.zeros_like(points)
    (gradient,) = torch.autograd.grad(value.sum(), points, allow_unused=True, retain_graph=again)
    return torch.zeros_like(points) if gradient is None else gradient
