"""Where the uncertainty of a mean over seeds and examples comes from, and the interval that follows from it.

Every seed meets every example of the test set, so the two are crossed: what a seed makes of an example is a mean, plus
what is particular to the seed, to the example, and to the pair (two-way random effects without replication: Cornfield
& Tukey 1956; Searle, Casella & McCulloch 1992, section 4.7). Seeds are few and examples many, so each part of the
variance has its own degrees of freedom, and the interval takes Cochran's weighted quantile of t, which seldom errs more
often than it says; `docs/statistics.md` shows by simulation why not Satterthwaite's, nor a bootstrap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import variance
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit

Array = np.ndarray[Any, np.dtype[np.float64]]
LEAST_P = 1e-12


@dataclass(frozen=True)
class Variance:
    """The variance of one outcome, of one seed on one example, by its source.

    Attributes:
        seeds: Number of seeds.
        examples: Number of examples; 0 where they are no source of chance, or are not known one by one.
        df: Degrees of freedom of what is known about the seeds.
        of_seeds: Between seeds; as estimated, which may be below zero.
        of_examples: Between examples; 0 without examples.
        of_rest: What is particular to a seed on an example; 0 without examples.
    """

    seeds: int
    examples: int
    df: float
    of_seeds: float
    of_examples: float = 0.0
    of_rest: float = 0.0

    def parts(self, seeds: int | None = None, examples: int | None = None) -> tuple[float, float, float]:
        """Returns what seeds, examples and the rest add to the variance of the mean, here or with other numbers."""
        n, m = seeds or self.seeds, examples or self.examples
        return max(self.of_seeds, 0.0) / n, self.of_examples / max(m, 1), self.of_rest / (n * max(m, 1))

    def half_width(self, alpha: float, seeds: int | None = None, examples: int | None = None) -> float:
        """Returns half the length of the interval of the mean at level 1 - alpha, here or with other numbers.

        Cochran's weights (Cochran & Cox 1957, section 4.14): what is estimated from the seeds counts by the quantile of
        their few degrees of freedom, what is estimated from the examples by that of the normal distribution. It is not
        shorter than that of the examples alone, should the seeds happen to agree better than the rest allows.
        """
        seed, example, rest = self.parts(seeds, examples)
        seen = max(self.of_seeds / self.seeds + rest, 0.0)  # the variance of the means of seeds, as it is estimated
        by_seeds = seen if seeds is None and examples is None else seed + rest
        df = self.df if seeds is None else self.df * (seeds - 1) / (self.seeds - 1)
        few, many = -float(stdtrit(df, alpha / 2)), -float(ndtri(alpha / 2))  # quantiles of t and of the normal
        total = by_seeds + example
        weighted = (few * by_seeds + many * example) / math.sqrt(total) if total else 0.0
        return max(weighted, many * math.sqrt(example + rest))

    def p_value(self, mean: float) -> float:
        """Returns the two-sided p-value against a mean of zero: the level at which the interval touches it."""
        if mean == 0:
            return 1.0
        if self.half_width(LEAST_P) <= abs(mean):
            return LEAST_P
        return math.exp(brentq(lambda power: self.half_width(math.exp(power)) - abs(mean), math.log(LEAST_P), 0.0))


def crossed(outcomes: Array, grain: float = 0.0) -> Variance:
    """Splits the variance of outcomes by the mean squares of the two-way table.

    Args:
        outcomes: `(S, N)`, of at least two seeds; N = 1 where only the mean of each seed is known, or where the
            examples are the whole population.
        grain: Step of the numbers: an accuracy over N examples is a multiple of 1 / N. Seeds that agree to a step may
            still differ within it, by a variance of grain^2 / 12 (Sheppard 1898).
    """
    seeds, examples = outcomes.shape
    by_seed = outcomes.mean(1)  # (S, N) -> (S,)
    between = max(variance(by_seed.tolist()), grain**2 / 12)
    if examples == 1:
        return Variance(seeds, 0, seeds - 1, between)
    by_example = outcomes.mean(0)  # (S, N) -> (N,)
    residual = outcomes - by_seed[:, None] - by_example[None] + by_seed.mean()  # (S, N)
    rest = float((residual**2).sum()) / ((seeds - 1) * (examples - 1))
    return split(seeds, examples, between, float(by_example.var(ddof=1)), rest)


def split(seeds: int, examples: int, between: float, among: float, rest: float) -> Variance:
    """Takes out of the variance of means what the rest adds to it.

    Args:
        seeds: Number of seeds.
        examples: Number of examples.
        between: Variance of the means of seeds.
        among: Variance of the means of examples.
        rest: Mean square of the rest.
    """
    return Variance(seeds, examples, seeds - 1, between - rest / examples, max(among - rest / seeds, 0.0), rest)
