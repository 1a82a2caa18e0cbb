"""At which level each of several questions is asked, so that all intervals together keep the study's confidence."""

from __future__ import annotations

from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm


def each_level(alpha: float, questions: int) -> float:
    """Returns the level of each question such that all answers together err no more often than alpha (Sidak, 1967).

    His inequality holds for two-sided intervals whatever the correlations of the estimates.
    """
    return float(1 - (1 - alpha) ** (1 / max(questions, 1)))


def family_p(p: float, questions: int) -> float:
    """Returns the p-value corrected for the number of questions: below alpha just where the interval excludes zero."""
    return float(1 - (1 - p) ** max(questions, 1))


def against_reference(alpha: float, arms: int) -> float:
    """Returns the level of each of several comparisons with one reference (Dunnett, 1955).

    Two differences that share the reference correlate by 1/2 where all arms scatter alike, so the largest of them is
    smaller than that of as many independent ones.
    """

    def missed(bound: float) -> float:
        inside = quad(lambda u: norm.pdf(u) * _between(bound, u) ** arms, -8, 8)[0]
        return float(1 - inside - alpha)

    return alpha if arms <= 1 else float(2 * norm.sf(brentq(missed, 1.0, 8.0)))


def _between(bound: float, shared: float) -> float:
    """Returns the chance that (X + U) / sqrt(2) lies within the bound, given U; X and U are standard normal."""
    root = 2**0.5
    return float(norm.cdf(root * bound - shared) - norm.cdf(-root * bound - shared))
