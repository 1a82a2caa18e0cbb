"""The evaluator's attacks: which images withstand one, counting every point that a white-box attacker visits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from advlora.attacks.apgd import apgd
from advlora.attacks.case import Case, Classifier, Rows, probe
from advlora.attacks.fab import fab
from advlora.attacks.objectives import likely_targets
from advlora.attacks.square import square
from advlora.attacks.threat import Threat, check_range
from advlora.attacks.transfer import momentum
from advlora.config import EvaluationAttackConfig
from advlora.randomness import generator


def withstands(
    classify: Classifier,
    images: Tensor,
    labels: Tensor,
    attack: EvaluationAttackConfig,
    epsilon: float,
    names: Sequence[tuple[int | str, ...]],
    surrogate: Classifier | None = None,
) -> Tensor:
    """Attacks a batch with all targets and restarts.

    The attacker keeps the best it finds per image: one visited point that is misclassified suffices. Images that are
    broken are attacked no further. Of a transfer attack only the last point counts.

    Args:
        classify: The model; normalisation inside.
        images: `(B, 3, H, W)` in [0, 1].
        labels: `(B,)`, int64.
        attack: What to do; not an ensemble.
        epsilon: Radius of the ball.
        names: One per image; each names its random numbers.
        surrogate: The model that a transfer attack follows; the evaluated one if there is none.

    Returns:
        `(B,)`, true for images that are classified correctly at every visited point.
    """
    check_range(images)
    threat = Threat(attack.norm, epsilon)
    standing = torch.arange(len(images), device=images.device)
    targets = _targets(classify, images, labels, attack.targets)
    for run in range(attack.restarts * (targets.shape[1] if attack.targets else 1)):
        if not len(standing):
            break
        generators = [generator(*names[position], run) for position in standing.tolist()]
        aim = targets[standing, run // attack.restarts] if attack.targets else None
        source = surrogate if attack.source == "pretrained" else None
        case = Case(classify, images[standing], labels[standing], threat, generators, aim, source)
        standing = standing[_run(case, attack, run % attack.restarts)]
    return torch.isin(torch.arange(len(images), device=images.device), standing)


def _targets(classify: Classifier, images: Tensor, labels: Tensor, count: int) -> Tensor:
    if not count or not len(images):
        return labels.new_zeros(len(labels), 0)
    with torch.no_grad():
        return likely_targets(classify(images), labels, count)


def _run(case: Case, attack: EvaluationAttackConfig, restart: int) -> Tensor:
    """Runs an attack once; returns which images withstand, `(B,)`."""
    size = step_size(attack, case.threat.epsilon)
    if attack.kind in {"fgsm", "pgd"}:
        start = case.images if attack.kind == "fgsm" else case.start()
        return pursue(case, attack.loss, start, attack.steps, size)
    if attack.kind.startswith("apgd"):
        return apgd(case, attack.loss, attack.steps)
    if attack.kind.startswith("fab"):
        return fab(case, attack.steps, random_start=restart > 0)
    if attack.kind == "square":
        return square(case, attack.steps)
    if attack.kind in {"mi", "di"}:
        return momentum(case, attack.loss, attack.steps, size, diverse=attack.kind == "di")
    assert attack.kind == "noise", f"{attack.kind} is not a single attack"
    return probe(case.classify, case.start(), case.labels, attack.loss, gradient=False).right


@dataclass
class _Pursuit(Rows):
    """The current point of every image."""

    point: Tensor


def pursue(case: Case, loss: str, start: Tensor, steps: int, size: float) -> Tensor:
    """PGD that drops an image as soon as it is broken (Madry et al. 2018); returns which withstand, `(B,)`."""
    pursuit = _Pursuit(case.places(), case.images, case.labels, None, start)
    for step in range(steps + 1):
        last = step == steps
        found = probe(case.classify, pursuit.point, pursuit.labels, loss, gradient=not last)
        pursuit.point = pursuit.point + size * case.threat.direction(found.gradient)
        pursuit.keep(found.right)
        if last or not len(pursuit):
            break
        pursuit.point = case.threat.project(pursuit.point, pursuit.images)
    return case.mask(pursuit.place)


def step_size(attack: EvaluationAttackConfig, epsilon: float) -> float:
    """Returns the configured step, or the standard: 2.5 epsilon / steps, at most epsilon; epsilon / steps (MI, DI)."""
    if attack.step_size is not None:
        return attack.step_size
    return epsilon / attack.steps if attack.kind in {"mi", "di"} else min(2.5 * epsilon / attack.steps, epsilon)
