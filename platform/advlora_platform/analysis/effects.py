"""What each factor does: the effect of switching it on, how factors change each other's effect, arms against one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from advlora_platform.analysis.arms import ArmResult
from advlora_platform.analysis.contrasts import Contrast, Group, Wording, contrasts
from advlora_platform.analysis.simultaneous import SharedReference
from advlora_platform.analysis.terms import Terms

Levels = tuple[int, ...]
Effects = Mapping[str, Sequence[str]]
"""Factor -> the name of the effect of each of its levels beyond the baseline."""
TOGETHER = Wording("better together", "worse together")


def main_effects(arms: Sequence[ArmResult], factors: Effects, metric: str, terms: Terms) -> tuple[Contrast, ...]:
    """Returns the effect of each level of a factor against its baseline.

    It is the mean over all pairs of arms that differ in this factor only (Montgomery, Design and Analysis of
    Experiments, chapter 6): every pair of a factorial, the single pair of the one-at-a-time designs. A fraction has no
    such pairs; there it is the mean of the arms that have the factor on less that of the others, which balances the
    other factors.
    """
    table = _table(arms, factors)
    questions = {}
    for place, names in enumerate(factors.values()):
        for level, name in enumerate(names, start=1):
            pairs = _pairs(table, place, level)
            questions[name] = _arms(table, pairs) if pairs or len(names) > 1 else _halves(table, place)
    return contrasts(questions, metric, terms)


def interactions(arms: Sequence[ArmResult], factors: Effects, metric: str, terms: Terms) -> tuple[Contrast, ...]:
    """Returns, for each pair of factors of a factorial, by how much one changes the effect of the other.

    That is (effect of A with B on) - (effect of A with B off), averaged over the levels of the other factors; for each
    pair of their levels beyond the baseline.
    """
    table = _table(arms, factors)
    questions = {}
    for (first, many), (second, others) in itertools.combinations(enumerate(factors.values()), 2):
        for (m, a), (n, b) in itertools.product(enumerate(many, start=1), enumerate(others, start=1)):
            squares = [
                (high, low, _off(high, second), _off(low, second))
                for high, low in _pairs(table, first, m)
                if high[second] == n
            ]
            whole = [square for square in squares if all(levels in table for levels in square)]
            questions[f"{a} x {b}"] = _arms(table, whole)
    return contrasts(questions, metric, terms, TOGETHER)


def comparisons(arms: Sequence[ArmResult], reference: ArmResult, metric: str, terms: Terms) -> tuple[Contrast, ...]:
    """Returns the difference of every other arm to the reference."""
    questions = {arm.name: [((1, arm), (-1, reference))] for arm in arms if arm is not reference}
    return contrasts(questions, metric, terms, family=SharedReference(len(questions)) if terms.alike else None)


def reference_of(arms: Sequence[ArmResult]) -> ArmResult:
    """Returns the arm in which every factor is off, or the first one where there is none."""
    off = (arm for arm in arms if arm.factors is not None and not any(arm.factors.values()))
    return next(off, arms[0])


def _table(arms: Sequence[ArmResult], factors: Effects) -> dict[Levels, ArmResult]:
    designed = [(arm, arm.factors) for arm in arms if arm.factors is not None]
    return {tuple(int(levels[name]) for name in factors): arm for arm, levels in designed}


def _pairs(table: Mapping[Levels, object], place: int, level: int) -> list[tuple[Levels, Levels]]:
    return [(row, _off(row, place)) for row in table if row[place] == level and _off(row, place) in table]


def _halves(table: Mapping[Levels, ArmResult], place: int) -> list[Group]:
    """Returns all arms as one group: the mean of those with a factor on, less that of the others."""
    signs = 2 * np.array(list(table)) - 1  # (A, K), -1 or 1
    products = signs[:, [place]] * signs  # (A, K)
    if not len(signs) or np.delete(products, place, axis=1).sum(0).any() or signs[:, place].sum():
        return []  # the other factors would not cancel
    return [tuple(zip((2 * signs[:, place] / len(signs)).tolist(), table.values(), strict=True))]


def _off(levels: Levels, place: int) -> Levels:
    return (*levels[:place], 0, *levels[place + 1 :])


def _arms(table: Mapping[Levels, ArmResult], groups: Sequence[tuple[Levels, ...]]) -> list[Group]:
    """Returns the arms of groups with their signs: + - of a pair, + - - + of a square."""
    signs = (1, -1, -1, 1)
    return [tuple((sign, table[levels]) for sign, levels in zip(signs, group, strict=False)) for group in groups]
