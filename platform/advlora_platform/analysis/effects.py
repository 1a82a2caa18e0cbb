"""What each factor does: the effect of switching it on, how factors change each other's effect, arms against one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from advlora_platform.analysis.arms import ArmResult
from advlora_platform.analysis.contrasts import Contrast, Group, Wording, contrasts
from advlora_platform.analysis.simultaneous import SharedReference
from advlora_platform.analysis.terms import Terms

Levels = tuple[bool, ...]
TOGETHER = Wording("better together", "worse together")


def main_effects(arms: Sequence[ArmResult], factors: Sequence[str], metric: str, terms: Terms) -> tuple[Contrast, ...]:
    """Returns the effect of switching each factor on.

    It is the mean over all pairs of arms that differ in this factor only (Montgomery, Design and Analysis of
    Experiments, chapter 6): every pair of a factorial, the single pair of the one-at-a-time designs.
    """
    table = _table(arms, factors)
    questions = {name: _arms(table, _pairs(table, place)) for place, name in enumerate(factors)}
    return contrasts(questions, metric, terms)


def interactions(arms: Sequence[ArmResult], factors: Sequence[str], metric: str, terms: Terms) -> tuple[Contrast, ...]:
    """Returns, for each pair of factors of a factorial, by how much one changes the effect of the other.

    That is (effect of A with B on) - (effect of A with B off), averaged over the levels of the other factors.
    """
    table = _table(arms, factors)
    questions = {}
    for (first, a), (second, b) in itertools.combinations(enumerate(factors), 2):
        squares = [(high, low, _off(high, second), _off(low, second)) for high, low in _pairs(table, first)]
        questions[f"{a} x {b}"] = _arms(table, [square for square in squares if square[0][second]])
    return contrasts(questions, metric, terms, TOGETHER)


def comparisons(arms: Sequence[ArmResult], reference: ArmResult, metric: str, terms: Terms) -> tuple[Contrast, ...]:
    """Returns the difference of every other arm to the reference."""
    questions = {arm.name: [((1, arm), (-1, reference))] for arm in arms if arm is not reference}
    return contrasts(questions, metric, terms, family=SharedReference(len(questions)) if terms.alike else None)


def reference_of(arms: Sequence[ArmResult]) -> ArmResult:
    """Returns the arm in which every factor is off, or the first one where there is none."""
    off = (arm for arm in arms if arm.factors is not None and not any(arm.factors.values()))
    return next(off, arms[0])


def _table(arms: Sequence[ArmResult], factors: Sequence[str]) -> dict[Levels, ArmResult]:
    designed = [(arm, arm.factors) for arm in arms if arm.factors is not None]
    return {tuple(levels[name] for name in factors): arm for arm, levels in designed}


def _pairs(table: Mapping[Levels, object], place: int) -> list[tuple[Levels, Levels]]:
    return [(levels, _off(levels, place)) for levels in table if levels[place] and _off(levels, place) in table]


def _off(levels: Levels, place: int) -> Levels:
    return (*levels[:place], False, *levels[place + 1 :])


def _arms(table: Mapping[Levels, ArmResult], groups: Sequence[tuple[Levels, ...]]) -> list[Group]:
    """Returns the arms of groups with their signs: + - of a pair, + - - + of a square."""
    signs = (1, -1, -1, 1)
    return [tuple((sign, table[levels]) for sign, levels in zip(signs, group, strict=False)) for group in groups]
