"""What each factor does: paired effects of switching it on, and how factors change each other's effect."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from statistics import fmean

from advlora_platform.analysis.arms import ArmResult
from advlora_platform.analysis.contrasts import Contrast, Wording, contrasts

Levels = tuple[bool, ...]
HELP = Wording("helps", "hurts")
TOGETHER = Wording("stronger together", "weaker together")
COMPARED = Wording("better", "worse")


def main_effects(
    arms: Sequence[ArmResult], factors: Sequence[str], metric: str, planned: int, confidence: float
) -> tuple[Contrast, ...]:
    """Returns the effect of switching each factor on.

    Per seed it is the mean over all pairs of arms that differ in this factor only (Montgomery, Design and Analysis of
    Experiments, chapter 6): every pair of a factorial, the single pair of the one-at-a-time designs. A seed counts
    when every trial of every pair is done.
    """
    table = _table(arms, factors, metric)
    questions = {name: _signed(table, _pairs(table, place)) for place, name in enumerate(factors)}
    return contrasts(questions, metric, planned, confidence, HELP)


def interactions(
    arms: Sequence[ArmResult], factors: Sequence[str], metric: str, planned: int, confidence: float
) -> tuple[Contrast, ...]:
    """Returns, for each pair of factors of a factorial, by how much one changes the effect of the other.

    Per seed: (effect of A with B on) - (effect of A with B off), averaged over the levels of the other factors.
    """
    table = _table(arms, factors, metric)
    questions = {}
    for (first, a), (second, b) in itertools.combinations(enumerate(factors), 2):
        squares = [(high, low, _off(high, second), _off(low, second)) for high, low in _pairs(table, first)]
        complete = [square for square in squares if square[0][second]]
        questions[f"{a} x {b}"] = _signed(table, complete)
    return contrasts(questions, metric, planned, confidence, TOGETHER)


def comparisons(
    arms: Sequence[ArmResult], reference: ArmResult, metric: str, planned: int, confidence: float
) -> tuple[Contrast, ...]:
    """Returns the difference of every other arm to the reference, paired by seed."""
    base = reference.by_seed(metric)
    questions = {}
    for arm in arms:
        if arm is not reference:
            values = arm.by_seed(metric)
            questions[arm.name] = {seed: values[seed] - base[seed] for seed in values if seed in base}
    return contrasts(questions, metric, planned, confidence, COMPARED)


def reference_of(arms: Sequence[ArmResult]) -> ArmResult:
    """Returns the arm in which every factor is off, or the first one where there is none."""
    off = (arm for arm in arms if arm.factors is not None and not any(arm.factors.values()))
    return next(off, arms[0])


def _table(arms: Sequence[ArmResult], factors: Sequence[str], metric: str) -> dict[Levels, dict[int, float]]:
    designed = [(arm, arm.factors) for arm in arms if arm.factors is not None]
    return {tuple(levels[name] for name in factors): arm.by_seed(metric) for arm, levels in designed}


def _pairs(table: Mapping[Levels, object], place: int) -> list[tuple[Levels, Levels]]:
    return [(levels, _off(levels, place)) for levels in table if levels[place] and _off(levels, place) in table]


def _off(levels: Levels, place: int) -> Levels:
    return (*levels[:place], False, *levels[place + 1 :])


def _signed(table: Mapping[Levels, Mapping[int, float]], groups: Sequence[tuple[Levels, ...]]) -> dict[int, float]:
    """Returns seed -> mean over groups; a group adds and subtracts its arms as + - (a pair) or + - - + (a square)."""
    if not groups:
        return {}
    signs = (1, -1, -1, 1)
    needed = {levels for group in groups for levels in group}
    seeds = [seed for seed in table[groups[0][0]] if all(seed in table[levels] for levels in needed)]
    return {
        seed: fmean(
            sum(sign * table[levels][seed] for sign, levels in zip(signs, group, strict=False)) for group in groups
        )
        for seed in seeds
    }
