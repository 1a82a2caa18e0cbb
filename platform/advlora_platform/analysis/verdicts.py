"""The verdict on a difference: one of four words, from the interval that stands beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from scipy.special import ndtri

from advlora_platform.analysis.estimates import Estimate
from advlora_platform.analysis.variance import Variance
from advlora_platform.analysis.words import plural

Outcome = Literal["better", "worse", "equivalent", "unresolved", "unmeasured"]
"""The verdict for programs."""

LEAST_SEEDS = 3
"""Below so many seeds there is no verdict, and no interval beside it: the spread of two is known too badly."""
POWER = 0.8
PATIENCE = 100
"""More further seeds, or so many times the images, are not recommended."""


@dataclass(frozen=True)
class More:
    """What would resolve a difference with a power of 80 %: either of the two.

    Attributes:
        seeds: Further seeds; None where `PATIENCE` of them do not suffice.
        images: Further test images; None where `PATIENCE` times as many do not suffice, or they are no source of
            chance.
    """

    seeds: int | None
    images: int | None

    @property
    def words(self) -> str:
        """What to add, for people."""
        power = f"for {100 * POWER:.0f} % power"
        if self.seeds is not None:
            return f"about {plural(self.seeds, 'more seed')} {power}"
        if self.images is not None:
            return f"about {plural(self.images, 'more test image')} {power}; seeds alone do not suffice"
        return f"more than {PATIENCE} further seeds needed {power}"


def outcome_of(found: Estimate | None, margin: float, direction: int) -> Outcome:
    """Returns the verdict that an interval gives.

    An interval within the margin says that the difference does not matter, even where it excludes zero. That is two
    one-sided tests, each at half the level of the interval (Schuirmann, 1987).

    Args:
        found: The difference.
        margin: Smallest difference that matters; 0 for none.
        direction: 1 where more is better, -1 where less is.
    """
    if found is None:
        return "unmeasured"
    if found.low is None or found.high is None:
        return "unresolved"
    if -margin < found.low and found.high < margin:
        return "equivalent"
    if found.low > 0 or found.high < 0:
        return "better" if found.mean * direction > 0 else "worse"
    return "unresolved"


def what_to_add(found: Estimate, margin: float, alpha: float) -> More | None:
    """Returns what would resolve a difference as large as the one seen, or as the margin where that is larger.

    Args:
        found: The difference so far, without an answer.
        margin: Smallest difference that matters.
        alpha: Level at which this question is asked.
    """
    variance, effect = found.variance, max(abs(found.mean), margin)
    if variance is None or effect == 0:
        return None
    seeds = _least(PATIENCE, lambda more: _resolved(variance, effect, alpha, variance.seeds + more, None))
    known = variance.examples
    images = _least((PATIENCE - 1) * known, lambda more: _resolved(variance, effect, alpha, None, known + more))
    return More(seeds, images if known else None)


def _resolved(variance: Variance, effect: float, alpha: float, seeds: int | None, examples: int | None) -> bool:
    """Whether a true effect would be found at least as often as `POWER` says, with other numbers."""
    sd = math.sqrt(sum(variance.parts(seeds, examples)))
    return variance.half_width(alpha, seeds, examples) + float(ndtri(POWER)) * sd <= effect


def _least(most: int, enough: Callable[[int], bool]) -> int | None:
    """Returns the smallest number from 1 that is enough, by halving; None if `most` is not."""
    if most < 1 or not enough(most):
        return None
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
