"""Which interval a mean over crossed seeds and examples should have: `python -m benchmarks.intervals`.

Counts how often the truth lies outside of each, in units of the level: 1 is as often as was said.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from scipy.stats import t

from advlora_platform.analysis.simultaneous import each_level
from advlora_platform.analysis.variance import Variance, crossed

Table = np.ndarray[Any, np.dtype[np.float64]]
QUESTIONS = 10
EXAMPLES = 200
SHARES = ((1.0, 0.0, 0.0), (0.7, 0.2, 0.1), (0.4, 0.4, 0.2), (0.1, 0.8, 0.1), (0.1, 0.1, 0.8))
"""Of seeds, examples and rest in the variance of the mean."""
DRAWS = 1000


def satterthwaite(found: Variance, alpha: float) -> float:
    """Returns half the interval with the degrees of freedom of the whole variance (Satterthwaite, 1946)."""
    seed, example, rest = found.parts()
    total = seed + example + rest
    df = total**2 / ((seed + rest) ** 2 / found.df + (example + rest) ** 2 / (found.examples - 1))
    return float(t.isf(alpha / 2, df)) * total**0.5


def seeds_alone(found: Variance, alpha: float) -> float:
    """Returns half of Student's interval over seeds."""
    seed, _, rest = found.parts()
    return float(t.isf(alpha / 2, found.df)) * (seed + rest) ** 0.5


def bootstrap(table: Table, alpha: float, chance: np.random.Generator) -> tuple[float, float]:
    """Returns percentiles of means over seeds and examples that are both drawn with replacement (Owen, 2007)."""
    seeds, examples = (chance.multinomial(n, [1 / n] * n, size=DRAWS) / n for n in table.shape)
    means = ((seeds @ table) * examples).sum(1)  # (D, S) @ (S, N) -> (D, N) -> (D,)
    low, high = np.quantile(means, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def misses(seeds: int, shares: tuple[float, float, float], tables: int, chance: np.random.Generator) -> list[float]:
    """Returns how often each interval misses, in units of the level; the bootstrap at 5 %, for its tails are coarse."""
    alpha, missed = each_level(0.05, QUESTIONS), np.zeros(4)
    seed, example, rest = (share * n for share, n in zip(shares, (seeds, EXAMPLES, seeds * EXAMPLES), strict=True))
    for _ in range(tables):
        table = seed**0.5 * chance.standard_normal((seeds, 1)) + example**0.5 * chance.standard_normal(EXAMPLES)
        table = table + rest**0.5 * chance.standard_normal((seeds, EXAMPLES))
        found, mean = crossed(table), abs(float(table.mean()))
        low, high = bootstrap(table, 0.05, chance)
        half = (found.half_width(alpha), satterthwaite(found, alpha), seeds_alone(found, alpha))
        missed += [*(mean > each for each in half), low > 0 or high < 0]
    return list(missed / tables / [alpha, alpha, alpha, 0.05])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=20_000)
    options = parser.parse_args()
    print("| seeds | shares of seeds, images, rest | Cochran | Satterthwaite | seeds alone | bootstrap, at 5 % |")
    print("|---|---|---|---|---|---|")
    for seeds in (3, 5, 10):
        for shares in SHARES:
            found = misses(seeds, shares, options.tables, np.random.default_rng(0))
            named = ", ".join(f"{100 * share:.0f}" for share in shares)
            print(f"| {seeds} | {named} | {' | '.join(f'{each:.1f}' for each in found)} |", flush=True)


if __name__ == "__main__":
    main()
