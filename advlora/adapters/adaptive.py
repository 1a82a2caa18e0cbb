"""Ingredient 3, adaptive update: a learnable scale alpha of the low-rank product, per matrix or per rank direction.

W = W0 - a0 s B0 A0 + s B diag(alpha) A, where a0 is the initial alpha and s is LoRA's fixed alpha / rank.
"""

from __future__ import annotations

import torch
from torch import nn

from advlora.config import AdaptiveConfig


def initial_alpha(config: AdaptiveConfig) -> float:
    """Returns a0: the configured value, or 1 where the ingredient is off."""
    return config.initial if config.enabled else 1.0


def alpha_parameter(config: AdaptiveConfig, rank: int) -> nn.Parameter | None:
    """Returns alpha, `(1,)` or `(rank,)`; None where it is fixed at 1."""
    if not config.enabled:
        return None
    return nn.Parameter(torch.full((rank if config.per == "rank" else 1,), config.initial))
