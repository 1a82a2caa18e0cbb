"""Order of samples and learning rate: pure functions of the configuration and the place in the training."""

from __future__ import annotations

from math import ceil, cos, pi

import torch
from torch import Tensor, nn

from advlora.config import OptimiserConfig
from advlora.randomness import generator


def batches(samples: int, size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """Returns the positions of every batch of an epoch; the last one may be smaller."""
    order = torch.randperm(samples, generator=generator(seed, "order", epoch))
    return torch.split(order, size)


def steps_per_epoch(samples: int, size: int) -> int:
    """Returns the number of batches in an epoch."""
    return ceil(samples / size)


def learning_rate(step: int, total: int, config: OptimiserConfig) -> float:
    """Rises linearly over the warm-up and falls as a half cosine towards 0 (Loshchilov & Hutter 2017).

    Args:
        step: Counted from 0 over all epochs.
        total: Number of all steps.
        config: Peak and share of the warm-up.
    """
    warm = ceil(config.warmup * total)
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    return config.learning_rate * (1 + cos(pi * (step - warm) / max(total - warm, 1))) / 2


def build_optimiser(parameters: list[nn.Parameter], config: OptimiserConfig) -> torch.optim.AdamW:
    """Builds AdamW; vectors and scalars (biases, norms, alpha) do not decay."""
    matrices = [parameter for parameter in parameters if parameter.dim() > 1]
    others = [parameter for parameter in parameters if parameter.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    fused = all(parameter.is_cuda for parameter in parameters)  # one kernel in place of several per parameter
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate, fused=fused)
