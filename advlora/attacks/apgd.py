"""Auto-PGD (Croce & Hein 2020, algorithm 1): PGD with momentum that halves its own step where progress stalls."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from advlora.attacks.case import Case, Rows, probe
from advlora.attacks.registry import on_classes
from advlora.attacks.threat import Threat
from advlora.config.evaluation_attacks import Apgd, ApgdCe, ApgdDlr, ApgdT, AutoPgd

MOMENTUM = 0.75
"""alpha of equation 3: weight of the new step; the rest is the last move."""
RISES = 0.75
"""rho of condition 1: the share of steps that must raise the objective, or the step is halved."""


@on_classes(Apgd, ApgdCe, ApgdDlr, ApgdT)
def _run(case: Case, attack: AutoPgd, _: int) -> Tensor:
    return apgd(case, attack.objective, attack.steps)


def apgd(case: Case, loss: str, steps: int) -> Tensor:
    """Returns which images are classified correctly at every visited point, `(B,)`."""
    climb = _begin(case, loss)
    marks = checkpoints(steps)
    for step in range(1, steps + 1):
        if not len(climb):
            break
        climb.move(case.threat, momentum=1.0 if step == 1 else MOMENTUM)  # there is no move before the first
        found = probe(case.classify, climb.point, climb.labels, loss, climb.targets, gradient=step < steps)
        climb.note(found.value, found.gradient)
        climb.keep(case.standing(found.right))
        if step in marks:
            climb.check(step - max((mark for mark in marks if mark < step), default=0))
    return case.mask(climb.place)


def checkpoints(steps: int) -> set[int]:
    """Returns the steps after which the step size is judged (section 3.2)."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    # The shares add up with rounding: without the small number 0.57 * 100 could become 58.
    return {ceil(share * steps - 1e-9) for share in shares[1:] if share <= 1}


@dataclass
class _Climb(Rows):
    """The state of algorithm 1, per image.

    Attributes:
        point: Current iterate, `(B, 3, H, W)`, and `previous` the one before.
        gradient: The objective's gradient at `point`, `(B, 3, H, W)`.
        value: The objective at `point`, `(B,)`.
        best: The point of the highest objective so far, with its `best_gradient` and `best_value`.
        marked: `best_value` at the last checkpoint, `(B,)`.
        size: Step size, `(B, 1, 1, 1)`.
        rises: Steps since the last checkpoint that raised the objective, `(B,)`.
        halved: Whether the step was halved at the last checkpoint, `(B,)`.
    """

    point: Tensor
    previous: Tensor
    gradient: Tensor
    value: Tensor
    best: Tensor
    best_gradient: Tensor
    best_value: Tensor
    marked: Tensor
    size: Tensor
    rises: Tensor
    halved: Tensor

    def move(self, threat: Threat, momentum: float) -> None:
        """Takes a step (equation 3)."""
        ahead = threat.project(self.point + self.size * threat.direction(self.gradient), self.images)
        inertia = (1 - momentum) * (self.point - self.previous)
        moved = self.point + momentum * (ahead - self.point) + inertia
        self.previous, self.point = self.point, threat.project(moved, self.images)

    def note(self, value: Tensor, gradient: Tensor) -> None:
        """Records the objective, `(B,)`, and its gradient at the new point."""
        self.rises = self.rises + (value > self.value)
        self.value, self.gradient = value, gradient
        better = value > self.best_value
        wide = better[:, None, None, None]  # (B, 1, 1, 1), against (B, 3, H, W)
        self.best = torch.where(wide, self.point, self.best)
        self.best_gradient = torch.where(wide, gradient, self.best_gradient)
        self.best_value = torch.where(better, value, self.best_value)

    def check(self, window: int) -> None:
        """Halves the step of the images that stall and sends them back to their best point.

        An image stalls if too few steps rose (condition 1), or if neither the step nor the best value has changed since
        the last checkpoint (condition 2).

        Args:
            window: Steps since the last checkpoint.
        """
        stalled = (self.rises < RISES * window) | (~self.halved & (self.best_value <= self.marked))
        wide = stalled[:, None, None, None]  # (B, 1, 1, 1)
        self.size = torch.where(wide, self.size / 2, self.size)
        self.point = torch.where(wide, self.best, self.point)
        self.gradient = torch.where(wide, self.best_gradient, self.gradient)
        self.value = torch.where(stalled, self.best_value, self.value)
        self.halved, self.marked, self.rises = stalled, self.best_value, torch.zeros_like(self.rises)


def _begin(case: Case, loss: str) -> _Climb:
    """Starts at a random point with a step of twice the radius."""
    point = case.start()
    found = probe(case.classify, point, case.labels, loss, case.targets)
    count = len(point)
    climb = _Climb(
        place=case.places(),
        images=case.images,
        labels=case.labels,
        targets=case.targets,
        point=point,
        previous=point,
        gradient=found.gradient,
        value=found.value,
        best=point,
        best_gradient=found.gradient,
        best_value=found.value,
        marked=found.value,
        size=torch.full((count, 1, 1, 1), 2 * case.threat.epsilon, device=point.device),
        rises=torch.zeros(count, device=point.device),
        # "Halved": condition 2 compares with an earlier checkpoint and cannot hold at the first one.
        halved=torch.ones(count, dtype=torch.bool, device=point.device),
    )
    climb.keep(case.standing(found.right))  # the start counts as visited
    return climb
