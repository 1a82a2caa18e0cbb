"""Which interval a mean over crossed seeds and examples should have: `python -m benchmarks.intervals`.

Counts how often the truth lies outside of each, in units of the level: 1 is as often as was said.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from advlora_platform.analysis.simultaneous import Independent
from advlora_platform.analysis.variance import Variance, split

QUESTIONS = 9
EXAMPLES = 500
SHARES = ((1.0, 0.0, 0.0), (0.7, 0.2, 0.1), (0.5, 0.4, 0.1), (0.1, 0.8, 0.1), (0.05, 0.15, 0.8))
"""Of seeds, examples and rest in the variance of the mean."""
TABLES, AGAIN = 200, 400
"""Tables for the bootstrap, which is slow, and draws from each."""


def satterthwaite(found: Variance, alpha: float) -> float:
    """Returns half the interval with the degrees of freedom of the whole variance (Satterthwaite, 1946)."""
    seed, example, rest = found.parts()
    total = seed + example + rest
    df = total**2 / ((seed + rest) ** 2 / found.df + (example + rest) ** 2 / (found.examples - 1))
    return float(-stdtrit(df, alpha / 2)) * total**0.5


def seeds_alone(found: Variance, alpha: float) -> float:
    """Returns half of Student's interval over seeds."""
    between = found.of_seeds + found.of_rest / found.examples
    return float(-stdtrit(found.df, alpha / 2)) * (max(between, 0.0) / found.seeds) ** 0.5


def drawn(seeds: int, variances: Sequence[float], chance: np.random.Generator) -> Variance:
    """Returns what is found of a table with known variances: its mean squares follow chi-squared distributions."""
    seed, example, rest = variances
    degrees = (seeds - 1, EXAMPLES - 1, (seeds - 1) * (EXAMPLES - 1))
    squares = (seed + rest / EXAMPLES, example + rest / seeds, rest)
    return split(seeds, EXAMPLES, *(s * chance.chisquare(df) / df for s, df in zip(squares, degrees, strict=True)))


def misses(seeds: int, shares: Sequence[float], draws: int, chance: np.random.Generator) -> list[float]:
    """Returns how often each interval misses, in units of the level."""
    alpha, missed = Independent(QUESTIONS).level(0.05), np.zeros(3)
    variances = [share * n for share, n in zip(shares, (seeds, EXAMPLES, seeds * EXAMPLES), strict=True)]
    for _ in range(draws):
        found, mean = drawn(seeds, variances, chance), abs(chance.standard_normal())
        half = (found.half_width(alpha), satterthwaite(found, alpha), seeds_alone(found, alpha))
        missed += [mean > each for each in half]
    return [*(missed / draws / alpha), bootstrap(seeds, variances, chance)]


def bootstrap(seeds: int, variances: Sequence[float], chance: np.random.Generator, alpha: float = 0.05) -> float:
    """Returns how often percentiles miss that resample seeds and examples (crossed bootstrap; Owen, 2007)."""
    seed, example, rest = (variance**0.5 for variance in variances)
    missed = 0
    for _ in range(TABLES):
        table = seed * chance.standard_normal((seeds, 1)) + example * chance.standard_normal(EXAMPLES)
        table = table + rest * chance.standard_normal((seeds, EXAMPLES))
        weights = (chance.multinomial(n, [1 / n] * n, size=AGAIN) / n for n in table.shape)
        by_seed, by_example = weights  # (D, S), (D, N)
        means = ((by_seed @ table) * by_example).sum(1)  # (D, S) @ (S, N) -> (D, N) -> (D,)
        low, high = np.quantile(means, [alpha / 2, 1 - alpha / 2])
        missed += low > 0 or high < 0
    return missed / TABLES / alpha


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20_000)
    options = parser.parse_args()
    print("| seeds | shares of seeds, images, rest | Cochran | Satterthwaite | seeds alone | bootstrap, at 5 % |")
    print("|---|---|---|---|---|---|")
    for seeds in (3, 5, 10):
        for shares in SHARES:
            found = misses(seeds, shares, options.draws, np.random.default_rng(0))
            named = ", ".join(f"{100 * share:.0f}" for share in shares)
            print(f"| {seeds} | {named} | {' | '.join(f'{each:.1f}' for each in found)} |", flush=True)


if __name__ == "__main__":
    main()
