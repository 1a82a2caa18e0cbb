"""Which combinations of levels a design has, and which effects a fraction cannot tell apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np

Design = Literal["factorial", "fractional", "leave_one_out", "one_in"]


def rows(design: Design, sizes: Sequence[int], resolution: int) -> list[tuple[int, ...]]:
    """Returns the level of every factor, run by run, from 0 for the baseline.

    Args:
        design: All combinations, a fraction, or one factor at a time from either end.
        sizes: Number of levels of every factor.
        resolution: Of a fraction: the length of the shortest product of factors that is constant in it.
    """
    if design == "factorial":
        return list(itertools.product(*(range(size) for size in sizes)))
    if design == "fractional":
        return _fraction(len(sizes), resolution)
    last = tuple(size - 1 for size in sizes)
    if design == "leave_one_out":
        return [last, *(_with(last, place, 0) for place in range(len(sizes)))]
    zero = (0,) * len(sizes)
    return [zero, *(_with(zero, place, n) for place, size in enumerate(sizes) for n in range(1, size))]


def aliases(names: Sequence[str], resolution: int) -> list[str]:
    """Returns which effects of factors and pairs are measured as one in a fraction, such as `a = b x c`."""
    signs = 2 * np.array(_fraction(len(names), resolution)) - 1  # (R, K), -1 or 1
    words = [word for length in (1, 2) for word in itertools.combinations(range(len(names)), length)]
    found: dict[tuple[int, ...], list[str]] = {}
    for word in words:
        column = signs[:, list(word)].prod(1)
        found.setdefault(tuple((column * column[0]).tolist()), []).append(" x ".join(names[place] for place in word))
    return [" = ".join(group) for group in found.values() if len(group) > 1]


@cache
def _fraction(factors: int, resolution: int) -> list[tuple[int, ...]]:
    """Returns the smallest regular fraction of a resolution that holds the run with every factor off."""
    from pydoe.factorial import fracfact_by_res

    signs = fracfact_by_res(factors, min(resolution, factors + 1))  # (R, K)
    levels = (1 - signs * signs[0]) / 2  # to change the sign of a column changes no alias
    return sorted(tuple(int(level) for level in row) for row in levels)


def _with(row: tuple[int, ...], place: int, level: int) -> tuple[int, ...]:
    return (*row[:place], level, *row[place + 1 :])
