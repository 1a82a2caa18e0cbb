"""At which level each of several questions is asked, so that all intervals together keep the study's confidence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri


class Family(Protocol):
    """Questions that are asked together."""

    def level(self, alpha: float) -> float:
        """Returns the level of each question such that all answers together err no more often than alpha."""

    def corrected(self, p: float) -> float:
        """Returns the p-value of a question for all of them: below alpha just where the interval excludes zero."""


@dataclass(frozen=True)
class Independent:
    """Questions whose estimates may correlate in any way: none is worse than independent ones (Sidak, 1967).

    Attributes:
        questions: How many, those without an answer yet included.
    """

    questions: int

    def level(self, alpha: float) -> float:
        """Returns the level of each question such that all answers together err no more often than alpha."""
        return float(1 - (1 - alpha) ** (1 / max(self.questions, 1)))

    def corrected(self, p: float) -> float:
        """Returns the p-value of a question for all of them: below alpha just where the interval excludes zero."""
        return float(1 - (1 - p) ** max(self.questions, 1))


@dataclass(frozen=True)
class SharedReference:
    """Comparisons of arms that scatter alike with one reference (Dunnett, 1955).

    Two differences that share the reference correlate by 1/2, so the largest of them is smaller than that of as many
    independent ones.

    Attributes:
        arms: How many are compared with the reference.
    """

    arms: int

    def level(self, alpha: float) -> float:
        """Returns the level of each question such that all answers together err no more often than alpha."""
        return _dunnett(self.arms, alpha)

    def corrected(self, p: float) -> float:
        """Returns the p-value of a question for all of them: below alpha just where the interval excludes zero."""
        return _beyond(-float(ndtri(p / 2)), self.arms)


@cache
def _dunnett(arms: int, alpha: float) -> float:
    """Returns the level at which the largest of so many comparisons errs as often as alpha says."""
    bound = brentq(lambda bound: _beyond(bound, arms) - alpha, 0.1, 8.0)
    return 2 * float(ndtr(-bound))


def _beyond(bound: float, arms: int) -> float:
    """Returns the chance that the largest of so many comparisons lies beyond a bound."""
    return float(1 - quad(lambda shared: _density(shared) * _between(bound, shared) ** arms, -8, 8)[0])


def _density(value: float) -> float:
    return math.exp(-(value**2) / 2) / math.sqrt(2 * math.pi)


def _between(bound: float, shared: float) -> float:
    """Returns the chance that (X + U) / sqrt(2) lies within the bound, given U; X and U are standard normal."""
    root = 2**0.5
    return float(ndtr(root * bound - shared) - ndtr(-root * bound - shared))
