"""`Rankings`: what became of every query of a retrieval, clean and attacked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advlora.evaluation.recall import Ranks
from advlora.metrics import OWNER, Metric, rank_name, recall_name

SELECTING = recall_name("tr", 1)
"""What `clean_r1` and `robust_r1` are in retrieval."""


@dataclass(frozen=True)
class Rankings:
    """The ranks of all queries. Before a name stands the order: empty by similarity, `RERANKED` after re-ranking.

    Attributes:
        clean: Order -> ranks on clean images.
        attacked: Epsilon -> order -> ranks, the worst of all attackers.
        owner: `(T,)`, image of each caption.
    """

    clean: dict[str, Ranks]
    attacked: dict[float, dict[str, Ranks]]
    owner: Tensor

    def metrics(self, split: str) -> dict[str, float]:
        """Reduces to numbers in [0, 1] by metric name.

        `clean_r1` and `robust_r1`, by which trials are selected, are text retrieval at 1; the others are those of
        `Ranks`.
        """
        metrics = {Metric.clean(split, name): value for name, value in _recalls(self.clean).items()}
        metrics[Metric.clean(split)] = metrics[Metric.clean(split, SELECTING)]
        for epsilon, attacked in self.attacked.items():
            metrics |= {Metric.robust(split, epsilon, name): value for name, value in _recalls(attacked).items()}
            rates = _success_rates(self.clean, attacked)
            metrics |= {Metric.success(split, epsilon, name): value for name, value in rates.items()}
            metrics[Metric.robust(split, epsilon)] = metrics[Metric.robust(split, epsilon, SELECTING)]
        return {str(metric): value for metric, value in metrics.items()}

    def by_example(self, split: str) -> dict[str, Tensor]:
        """Returns the ranks of all queries, `(N,)` of images and `(T,)` of captions, and the `owner`, by name."""
        rows = {Metric.clean(split, name): row for name, row in _rows(self.clean).items()}
        for epsilon, attacked in self.attacked.items():
            rows |= {Metric.robust(split, epsilon, name): row for name, row in _rows(attacked).items()}
        rows[Metric(split, OWNER)] = self.owner
        return {str(name): row.to("cpu", torch.int32) for name, row in rows.items()}


def _rows(found: dict[str, Ranks]) -> dict[str, Tensor]:
    texts = {f"{order}{rank_name('tr')}": ranked.texts for order, ranked in found.items()}
    return texts | {f"{order}{rank_name('ir')}": ranked.images for order, ranked in found.items()}


def _recalls(found: dict[str, Ranks]) -> dict[str, float]:
    return {f"{order}{name}": value for order, ranked in found.items() for name, value in ranked.recalls().items()}


def _success_rates(clean: dict[str, Ranks], attacked: dict[str, Ranks]) -> dict[str, float]:
    rates = {order: before.success_rates(attacked[order]) for order, before in clean.items()}
    return {f"{order}{name}": value for order, found in rates.items() for name, value in found.items()}
