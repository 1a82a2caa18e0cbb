"""Whether a model answers at all: accuracy under attack says nothing of one that always says the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SURE = 0.01
"""Largest probability of so few other answers, were they as frequent as they are right."""
UNSURE = 0.05
"""Largest probability of so few right answers from a model that is better by `BETTER`."""
BETTER = 0.1


@dataclass(frozen=True)
class Answers:
    """The answers to queries of one kind.

    Attributes:
        noun: What the answers are, in the singular.
        given: `(K,)`, the best answer to each query, as a number.
        right: `(K,)`, whether the model counts as right.
        constant: Share of the queries that the best of all constant answers is right for.
    """

    noun: str
    given: Tensor
    right: Tensor
    constant: float

    @property
    def most(self) -> float:
        """The share of the most frequent answer."""
        _, counts = torch.unique(self.given, return_counts=True)
        return float(counts.max()) / len(self.given)

    def varied(self, tolerance: float) -> bool:
        """Whether there is more than one answer, or no reason to expect another.

        Few other answers are a finding only where it is next to impossible to draw so few queries that need one.
        """
        from scipy.special import bdtr  # a tenth of a second; scipy.stats, which has it as `binom.cdf`, takes seconds

        count = len(self.given)
        others = count - round(self.most * count)
        return others > tolerance * count or bool(bdtr(others, count, 1 - self.constant) > SURE)

    def above_constant(self) -> bool:
        """Whether more is right than a constant answer gets, or too little is known to say that it is not.

        A weak model has bad luck on few queries: it is condemned only where one that is better by ten points (of what
        is left above the constant answer, at most half) would nearly surely show it.
        """
        from scipy.special import bdtr

        count, found = len(self.right), int(self.right.sum())
        better = self.constant + min(BETTER, (1 - self.constant) / 2)
        return found > self.constant * count or bool(bdtr(found, count, better) > UNSURE)
