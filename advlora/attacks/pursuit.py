"""FGSM and PGD on a classifier: gradient steps that drop an image as soon as a visited point is misclassified."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from advlora.attacks.case import Case, Rows, probe
from advlora.attacks.registry import on_classes
from advlora.config.evaluation_attacks import Fgsm, Pgd


@on_classes(Fgsm)
def _fgsm(case: Case, attack: Fgsm, _: int) -> Tensor:
    return pursue(case, attack.objective, case.images, steps=1, step_size=case.threat.epsilon)


@on_classes(Pgd)
def _pgd(case: Case, attack: Pgd, _: int) -> Tensor:
    return pursue(case, attack.objective, case.start(), attack.steps, attack.step(case.threat.epsilon))


@dataclass
class _Pursuit(Rows):
    """The current point of every image."""

    point: Tensor


def pursue(case: Case, objective: str, start: Tensor, steps: int, step_size: float) -> Tensor:
    """PGD (Madry et al. 2018, equation 2.3).

    Args:
        case: The batch.
        objective: What is maximised; see `objectives`.
        start: The first points, `(B, 3, H, W)`; they count as visited.
        steps: Number of gradients.
        step_size: Length of a step in the threat's norm.

    Returns:
        `(B,)`, which images are classified correctly at every visited point.
    """
    pursuit = _Pursuit(case.places(), case.images, case.labels, None, start)
    for step in range(steps + 1):
        last = step == steps  # the last point is only looked at
        found = probe(case.classify, pursuit.point, pursuit.labels, objective, gradient=not last)
        pursuit.point = pursuit.point + step_size * case.threat.direction(found.gradient)
        pursuit.keep(case.standing(found.right))  # shrinks every tensor to the B' <= B images that still stand
        if last or not len(pursuit):
            break
        pursuit.point = case.threat.project(pursuit.point, pursuit.images)
    return case.mask(pursuit.place)
