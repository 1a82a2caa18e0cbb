"""What an attacker of the evaluation maximises: functions of the logits, one value per image.

A classifier answers one query per image, with logits `(B, C)` and one right class, `(B,)`. Retrieval is a classifier
with several right answers: which ones is a mask of the shape of the logits. Captions that look for an image are several
queries about it, with logits `(B, Q, C)`: what the attacker gains is the mean over the queries that have an answer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

TINY = 1e-12


Objective = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Logits `(..., C)`, which of them are right `(..., C)`, targets `(B,)` of a targeted attack -> the gain, `(...)`."""
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
        logits: `(B, C)`, or `(B, Q, C)`.
        labels: The right class, `(B,)`; or a mask of all right ones, of the shape of the logits. A query for which
            nothing is right fills a place and does not count.
        targets: `(B,)`, the classes that a targeted attack aims at.
    """
    own = answers(labels, logits)
    gain = _OBJECTIVES[name](logits, own, targets)  # (B,), or (B, Q)
    if gain.dim() == 1:
        return gain
    asked = own.any(-1)  # (B, Q)
    return gain.masked_fill(~asked, 0).sum(1) / asked.sum(1)  # (B, Q) -> (B,)


def answers(labels: Tensor, logits: Tensor) -> Tensor:
    """Returns which logits are right, of their shape: labels `(B,)` as a mask, and a mask as it is."""
    return one_hot(labels, logits.shape[1]).bool() if labels.dim() == 1 else labels


def is_right(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns which images are answered correctly, `(B,)`: a right answer has the largest logit in any of its queries.

    What is not a number is never right.

    Args:
        logits: `(B, C)`, or `(B, Q, C)`.
        labels: `(B,)`, or a mask of the shape of the logits.
    """
    known = ~logits.isnan().any(-1)  # (B,), or (B, Q)
    right = answers(labels, logits).gather(-1, logits.argmax(-1, keepdim=True))[..., 0] & known  # (B,), or (B, Q)
    return right.flatten(1).any(1) if right.dim() > 1 else right


@named("cross_entropy")
def _cross_entropy(logits: Tensor, own: Tensor, _: Tensor | None) -> Tensor:
    """The negative logarithm of the probability of all right answers together."""
    return -logits.log_softmax(-1).masked_fill(~own, -torch.inf).logsumexp(-1)


@named("margin")
def _margin(logits: Tensor, own: Tensor, _: Tensor | None) -> Tensor:
    return margin(logits, own)


@named("dlr")
def _dlr(logits: Tensor, own: Tensor, _: Tensor | None) -> Tensor:
    """The margin over the lead of the first class over the third (Croce & Hein 2020, equation 6)."""
    ordered = logits.sort(dim=-1, descending=True).values  # (..., C)
    return margin(logits, own) / (ordered[..., 0] - ordered[..., 2] + TINY)


@named("dlr_targeted")
def _dlr_targeted(logits: Tensor, own: Tensor, targets: Tensor | None) -> Tensor:
    """The target's lead over that of the first class over the mean of the third and fourth (equation 7)."""
    assert targets is not None, "a targeted loss needs targets"
    ordered = logits.sort(dim=1, descending=True).values  # (B, C)
    lower = ordered[:, 2:4].mean(1)  # of three classes there is no fourth: the third alone
    return lead(logits, own, targets) / (ordered[:, 0] - lower + TINY)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the best wrong logit minus the best right one (Carlini & Wagner 2017, section IV-A, f6).

    Args:
        logits: `(B, C)`, or `(B, Q, C)`.
        labels: `(B,)`, or a mask of the shape of the logits.

    Returns:
        `(B,)`, or `(B, Q)`.
    """
    own = answers(labels, logits)
    return logits.masked_fill(own, -torch.inf).amax(-1) - logits.masked_fill(~own, -torch.inf).amax(-1)


def lead(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Returns the logit of the target class minus that of the right one, `(B,)`."""
    right = logits.masked_fill(~answers(labels, logits), -torch.inf).amax(1)  # (B,)
    return logits.gather(1, targets[:, None])[:, 0] - right


def likely_targets(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """Returns the most likely wrong classes, best first, `(B, min(count, C - 1))`."""
    ranking = logits.masked_fill(answers(labels, logits), -torch.inf).argsort(dim=1, descending=True)
    return ranking[:, : min(count, logits.shape[1] - 1)]
