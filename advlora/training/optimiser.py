"""AdamW with a learning rate per kind of parameter, and a weight decay that pulls low-rank factors to their start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from advlora.adapters.adapt import TrainedParameter
from advlora.config import OptimiserConfig


class AnchoredAdamW(torch.optim.AdamW):
    """AdamW whose decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2) may pull towards any start.

    A group's `pull` is the weight decay of its parameters towards their starts: p <- p - lr pull (p - p0). The starts
    are no part of the state: they follow from the adapted model. A group's `factor` is its learning rate relative to
    the configured one.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, starts: dict[Tensor, Tensor]) -> None:
        """Takes groups of parameters, the learning rate, and parameter -> start for all parameters that are pulled."""
        fused = all(parameter.is_cuda for group in groups for parameter in group["params"])
        super().__init__(groups, lr=lr, fused=fused)  # one kernel in place of several per parameter
        self._starts = starts
        self.set_rate(lr)

    def set_rate(self, rate: float) -> None:
        """Sets the learning rate of every group to its share of a rate."""
        for group in self.param_groups:
            group["lr"] = rate * group["factor"]

    def step(self, closure: Any = None) -> Any:
        """Pulls parameters towards their starts, then updates them by their gradients."""
        self._pull()
        return super().step(closure)

    @torch.no_grad()
    def _pull(self) -> None:
        for group in self.param_groups:
            if group["pull"]:
                for parameter in group["params"]:
                    parameter.lerp_(self._starts[parameter], group["lr"] * group["pull"])


def build_optimiser(trained: Sequence[TrainedParameter], config: OptimiserConfig) -> AnchoredAdamW:
    """Builds AdamW; vectors and scalars (biases, norms, alpha) do not decay."""
    groups: dict[tuple[float, float, float], list[Tensor]] = {}
    for each in trained:
        decay = config.weight_decay if each.parameter.dim() > 1 else 0.0
        pull = decay if each.start is not None else 0.0
        groups.setdefault((each.learning_rate_factor, decay - pull, pull), []).append(each.parameter)
    return AnchoredAdamW(
        [
            {"params": parameters, "factor": factor, "weight_decay": decay, "pull": pull}
            for (factor, decay, pull), parameters in groups.items()
        ],
        config.learning_rate,
        {each.parameter: each.start.to(each.parameter) for each in trained if each.start is not None},
    )
