"""A mean over seeds, and over examples where their outcomes are known, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from advlora_platform.analysis.variance import Array, Variance, crossed


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: The mean.
        sd: Sample standard deviation over seeds; None for a single seed.
        n: Number of seeds.
        low: Lower end of the interval; None where none is stated.
        high: Upper end.
        variance: Where the uncertainty comes from; None for a single seed.
    """

    mean: float
    sd: float | None
    n: int
    low: float | None
    high: float | None
    variance: Variance | None = None

    @property
    def half_width(self) -> float | None:
        """Half the length of the interval."""
        return None if self.high is None else self.high - self.mean


def estimate(values: Sequence[float] | Array, confidence: float) -> Estimate | None:
    """Returns mean and interval; None without values.

    Args:
        values: One per seed: then the interval is Student's, over seeds alone. Or `(S, N)`, one per seed and example:
            then it covers both.
        confidence: Coverage of the interval, such as 0.95.
    """
    outcomes = np.asarray(values, dtype=np.float64)
    outcomes = outcomes[:, None] if outcomes.ndim == 1 else outcomes  # (S,) -> (S, 1)
    if not len(outcomes):
        return None
    if len(outcomes) == 1:
        return Estimate(float(outcomes.mean()), None, 1, None, None)
    return with_interval(outcomes, crossed(outcomes), 1 - confidence)


def with_interval(outcomes: Array, variance: Variance, alpha: float | None) -> Estimate:
    """Returns the mean of outcomes `(S, N)` with an interval at level 1 - alpha; without one for None."""
    by_seed = outcomes.mean(1).tolist()  # (S, N) -> (S,)
    mean, sd = fmean(by_seed), stdev(by_seed)
    if alpha is None:
        return Estimate(mean, sd, len(outcomes), None, None, variance)
    half = variance.half_width(alpha)
    return Estimate(mean, sd, len(outcomes), mean - half, mean + half, variance)
