"""Ingredient 3, adaptive update: a scale alpha of the low-rank product, per matrix or per rank direction.

W = W0 - a0 s B0 A0 + s B diag(alpha) A, where a0 is the initial alpha and s is LoRA's fixed alpha / rank. Alpha is
learned, moved by a schedule, or kept.
"""

from __future__ import annotations

from math import cos, pi

import torch
from torch import Tensor, nn

from advlora.config import AdaptiveConfig


def initial_alpha(config: AdaptiveConfig) -> float:
    """Returns a0: the configured value, or 1 where the ingredient is off."""
    return config.initial if config.enabled else 1.0


def alpha_parameter(config: AdaptiveConfig, rank: int) -> nn.Parameter | None:
    """Returns a learnable alpha, `(1,)` or `(rank,)`; None where it is not learned."""
    if not config.enabled or config.mode != "learnable":
        return None
    return nn.Parameter(torch.full((rank if config.per == "rank" else 1,), config.initial))


def fixed_alpha(config: AdaptiveConfig, rank: int, like: Tensor) -> Tensor | None:
    """Returns an alpha that is not learned, `(1,)` or `(rank,)`; None where it is learned, or 1."""
    if not config.enabled or config.mode == "learnable":
        return None
    return like.new_full((rank if config.per == "rank" else 1,), config.initial)


def scheduled_alpha(config: AdaptiveConfig, progress: float) -> float:
    """Returns alpha after a share `progress` of all steps, on a line or half a cosine from `initial` to `final`."""
    share = progress if config.shape == "linear" else (1 - cos(pi * progress)) / 2
    return config.initial + share * (config.final - config.initial)
