"""What an attacker of the evaluation maximises: functions of the logits `(B, C)`, one value per image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

TINY = 1e-12


Objective = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Logits `(B, C)`, labels `(B,)`, targets `(B,)` of a targeted attack -> the attacker's gain, `(B,)`."""
_OBJECTIVES: dict[str, Objective] = {}


def named(name: str) -> Callable[[Objective], Objective]:
    """Registers the decorated function as the objective of this name."""

    def register(function: Objective) -> Objective:
        _OBJECTIVES[name] = function
        return function

    return register


def objective(name: str, logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Returns the attacker's gain, `(B,)`.

    Args:
        name: A registered objective, such as `cross_entropy`.
        logits: `(B, C)`.
        labels: `(B,)`.
        targets: `(B,)`, the classes that a targeted attack aims at.
    """
    return _OBJECTIVES[name](logits, labels, targets)


@named("cross_entropy")
def _cross_entropy(logits: Tensor, labels: Tensor, _: Tensor | None) -> Tensor:
    return cross_entropy(logits, labels, reduction="none")


@named("margin")
def _margin(logits: Tensor, labels: Tensor, _: Tensor | None) -> Tensor:
    return margin(logits, labels)


@named("dlr")
def _dlr(logits: Tensor, labels: Tensor, _: Tensor | None) -> Tensor:
    """The margin over the lead of the first class over the third (Croce & Hein 2020, equation 6)."""
    ordered = logits.sort(dim=1, descending=True).values  # (B, C)
    return margin(logits, labels) / (ordered[:, 0] - ordered[:, 2] + TINY)


@named("dlr_targeted")
def _dlr_targeted(logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """The target's lead over that of the first class over the mean of the third and fourth (equation 7)."""
    assert targets is not None, "a targeted loss needs targets"
    ordered = logits.sort(dim=1, descending=True).values  # (B, C)
    lower = ordered[:, 2:4].mean(1)  # of three classes there is no fourth: the third alone
    return lead(logits, labels, targets) / (ordered[:, 0] - lower + TINY)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the best wrong logit minus the right one, `(B,)` (Carlini & Wagner 2017, section IV-A, f6)."""
    right = one_hot(labels, logits.shape[1]).bool()  # (B, C), one True per row
    return logits.masked_fill(right, -torch.inf).amax(1) - logits[right]  # (B,)


def lead(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Returns the logit of the target class minus that of the right one, `(B,)`."""
    return (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None]))[:, 0]


def likely_targets(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """Returns the most likely wrong classes, best first, `(B, min(count, C - 1))`."""
    right = one_hot(labels, logits.shape[1]).bool()  # (B, C)
    ranking = logits.masked_fill(right, -torch.inf).argsort(dim=1, descending=True)
    return ranking[:, : min(count, logits.shape[1] - 1)]
