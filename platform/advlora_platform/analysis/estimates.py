"""Student's t over seeds: means with intervals, p-values, Holm's correction, how many seeds an answer needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: The mean.
        sd: Sample standard deviation; None for a single value.
        n: Number of values.
        low: Lower end of the t-interval; None for a single value.
        high: Upper end.
    """

    mean: float
    sd: float | None
    n: int
    low: float | None
    high: float | None

    @property
    def half_width(self) -> float | None:
        """Half the length of the interval."""
        return None if self.high is None else self.high - self.mean


def estimate(values: Sequence[float], confidence: float) -> Estimate | None:
    """Returns mean and t-interval; None without values.

    Args:
        values: One per seed.
        confidence: Coverage of the interval, such as 0.95.
    """
    n = len(values)
    if n == 0:
        return None
    mean = fmean(values)
    if n == 1:
        return Estimate(mean, None, 1, None, None)
    sd = stdev(values)
    half = _quantile(1 - confidence, n) * sd / math.sqrt(n)
    return Estimate(mean, sd, n, mean - half, mean + half)


def p_value(found: Estimate | None) -> float | None:
    """Returns the two-sided p-value of the t-test against a mean of zero; None for fewer than two values.

    Differences without any spread are certain: 1 where they are zero, else 0.
    """
    if found is None or found.sd is None:
        return None
    if found.sd == 0:
        return float(found.mean == 0)
    t = abs(found.mean) / (found.sd / math.sqrt(found.n))
    return float(2 * stats.t.sf(t, found.n - 1))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Corrects p-values for the number of questions that were asked together (Holm, 1979).

    A question without an answer yet still counts as asked, so that an early look is not more certain than a late one.
    """
    order = sorted(range(len(p_values)), key=lambda index: _or_one(p_values[index]))
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * _or_one(p_values[index])))
        corrected[index] = None if p_values[index] is None else largest
    return corrected


def more_seeds(found: Estimate, alpha: float, limit: int) -> int | None:
    """Returns how many further seeds would resolve an effect, if its mean and standard deviation stay as they are.

    Args:
        found: The effect so far, over at least two seeds.
        alpha: Level of the test: the half-width of the interval at 1 - alpha must fall below the effect.
        limit: Largest answer.

    Returns:
        None where `limit` further seeds are not enough.
    """
    if found.sd is None or found.mean == 0:
        return None
    for more in range(1, limit + 1):
        n = found.n + more
        if _quantile(alpha, n) * found.sd / math.sqrt(n) < abs(found.mean):
            return more
    return None


def _quantile(alpha: float, n: int) -> float:
    return float(stats.t.ppf(1 - alpha / 2, n - 1))


def _or_one(p: float | None) -> float:
    return 1.0 if p is None else p
