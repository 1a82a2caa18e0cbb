"""Whether an attacker's gradient says anything at all."""

from __future__ import annotations

import torch
from torch import Tensor

from advlora.attacks import Classifier, probe

SATURATED = 3e-7
"""Below this part of the margin's gradient a saturated objective's is rounding: float32 cannot tell 1 - p from 0."""
UNSATURATED = ("margin", "dlr", "dlr_targeted")
"""Objectives of the logits themselves, whose gradient vanishes only where the margin's does."""
FLAT = 1e-3
"""A margin is flat where its gradient promises less than this part of it for a change of the whole pixel range."""


def vanishing_share(classify: Classifier, images: Tensor, labels: Tensor, loss: str, batch: int = 250) -> float:
    """Returns the share of images at which the attacker's gradient is zero, not finite or tiny.

    Args:
        classify: The model.
        images: `(B, 3, H, W)` in [0, 1], classified correctly.
        labels: `(B,)`, or a mask of the right answers.
        loss: An objective; one that is aimed at a class is judged by the margin.
        batch: Images at a time.
    """
    if not len(images):
        return 0.0
    parts = zip(torch.split(images, batch), torch.split(labels, batch), strict=True)
    return torch.cat([_vanishing(classify, *part, loss) for part in parts]).double().mean().item()


def _vanishing(classify: Classifier, images: Tensor, labels: Tensor, loss: str) -> Tensor:
    found = probe(classify, images, labels, "margin")
    slope = _length(found.gradient)
    flat = ~torch.isfinite(slope) | (slope <= FLAT * found.value.abs())
    if loss in UNSATURATED:
        return flat
    own = _length(probe(classify, images, labels, loss).gradient)
    return flat | ~torch.isfinite(own) | (own <= SATURATED * slope)


def _length(gradient: Tensor) -> Tensor:
    """Returns the L1 norm, `(B,)`: the gain of a step of 1 in every pixel."""
    return gradient.abs().flatten(1).sum(1)
