"""Two models on the same examples: the difference of their accuracies, and whether it is chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from advlora.randomness import seed_of


@dataclass(frozen=True)
class PairedComparison:
    """A against B.

    Attributes:
        examples: How many examples both saw.
        difference: Accuracy of A minus that of B.
        low: Lower end of its interval.
        high: Upper end.
        only_first: Examples that A alone gets right.
        only_second: Examples that B alone gets right.
        p_value: p of the exact McNemar test.
        p_mid: p of its mid-p version.
    """

    examples: int
    difference: float
    low: float
    high: float
    only_first: int
    only_second: int
    p_value: float
    p_mid: float


def compare_outcomes(
    first: Sequence[bool], second: Sequence[bool], *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> PairedComparison:
    """Compares two vectors of outcomes, example by example.

    Args:
        first: Whether A is right, per example.
        second: Whether B is right, on the same examples in the same order.
        level: Coverage of the interval.
        draws: Bootstrap samples.
        seed: Names their random numbers.

    Raises:
        ValueError: If the vectors are empty or differ in length.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"two vectors of outcomes of the same examples are needed, not {a.shape} and {b.shape}")
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    low, high = paired_bootstrap(a, b, level=level, draws=draws, seed=seed)
    exact, mid = mcnemar(only_first, only_second)
    difference = (only_first - only_second) / len(a)
    return PairedComparison(len(a), difference, low, high, only_first, only_second, exact, mid)


def paired_bootstrap(
    first: Sequence[bool] | np.ndarray,
    second: Sequence[bool] | np.ndarray,
    *,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the percentile interval of the difference of two accuracies (Efron & Tibshirani 1993, section 13.3).

    Examples are drawn with replacement, both outcomes of an example together. What matters of a draw is how many of
    its examples only A, and how many only B, gets right: these counts are drawn from their multinomial distribution.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    count, only_first, only_second = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    shares = np.array([only_first, only_second, count - only_first - only_second]) / count
    counts = np.random.default_rng(seed_of(seed, "paired bootstrap")).multinomial(count, shares, size=draws)
    low, high = np.quantile((counts[:, 0] - counts[:, 1]) / count, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mcnemar(only_first: int, only_second: int) -> tuple[float, float]:
    """Returns the exact and the mid-p value of McNemar's test, two-sided (Fagerland et al. 2013, equations 3 and 4).

    Under equal accuracies the examples on which the models differ are a fair coin's tosses. The exact test never
    errs more often than it says; mid-p is less conservative and seldom errs more often.
    """
    tosses, fewer = only_first + only_second, min(only_first, only_second)
    if not tosses:
        return 1.0, 1.0
    exact = 2 * float(binom.cdf(fewer, tosses, 0.5))
    point = float(binom.pmf(fewer, tosses, 0.5))
    mid = exact - point
    return min(exact, 1.0), min(mid, 1.0)
