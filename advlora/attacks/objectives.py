"""What an evaluating attacker maximises: functions of the logits `(B, C)`, one value per image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

TINY = 1e-12


def objective(kind: str, logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Returns the attacker's gain, `(B,)`.

    Args:
        kind: `cross_entropy`, `margin`, `dlr` or `dlr_targeted`.
        logits: `(B, C)`.
        labels: `(B,)`.
        targets: `(B,)`, the classes that a targeted attack aims at.
    """
    if kind == "cross_entropy":
        return cross_entropy(logits, labels, reduction="none")
    if kind == "margin":
        return margin(logits, labels)
    ordered = logits.sort(dim=1, descending=True).values
    if kind == "dlr":
        return margin(logits, labels) / (ordered[:, 0] - ordered[:, 2] + TINY)
    assert targets is not None, "a targeted loss needs targets"
    # Equation 7 subtracts the mean of the third and fourth logit; three classes have no fourth.
    lower = ordered[:, 2:4].mean(1)
    return lead(logits, labels, targets) / (ordered[:, 0] - lower + TINY)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the best wrong logit minus the right one, `(B,)` (Carlini & Wagner 2017, section IV-A, f6)."""
    right = one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(right, -torch.inf).amax(1) - logits[right]


def lead(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Returns the logit of the target class minus that of the right one, `(B,)`."""
    return (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None]))[:, 0]


def likely_targets(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """Returns the most likely wrong classes, best first, `(B, min(count, C - 1))`."""
    right = one_hot(labels, logits.shape[1]).bool()
    ranking = logits.masked_fill(right, -torch.inf).argsort(dim=1, descending=True)
    return ranking[:, : min(count, logits.shape[1] - 1)]
