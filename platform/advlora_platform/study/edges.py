"""Whether a chosen value lies at the edge of what could be chosen, and the range that reaches beyond that edge."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Literal

from advlora_platform.study.parameters import CategoricalParameter, Parameter, Space

Edge = Literal["smallest", "largest"]
NEAR = 0.1
"""A value in the outer tenth of a range, on its scale, is at its edge: the best may lie beyond it."""


def edges(space: Space, chosen: Mapping[str, Any]) -> dict[str, Edge]:
    """Returns which chosen values lie at an edge of their parameter; those without an order have none."""
    found = {key: _edge(space[key], value) for key, value in chosen.items() if key in space}
    return {key: edge for key, edge in found.items() if edge is not None}


def wider(parameter: Parameter, reached: Collection[Edge]) -> Parameter | None:
    """Returns a parameter that reaches beyond the edges that were reached; None where it cannot.

    A list of numbers gets one more at either end, in the ratio of its outer two; a range grows by half on its scale. No
    number becomes negative or zero that was not so before.
    """
    if isinstance(parameter, CategoricalParameter):
        return _longer(parameter, reached)
    low, high = parameter.low, parameter.high
    step = parameter.step if parameter.step and not parameter.log else None
    grown = _grown(low, high, parameter.log, step)
    bounds = (grown[0] if "smallest" in reached else low, grown[1] if "largest" in reached else high)
    if isinstance(low, int):
        bounds = (round(bounds[0]), round(bounds[1]))
    if low > 0 >= bounds[0] or low == 0 > bounds[0]:
        bounds = (low, bounds[1])
    return None if bounds == (low, high) else parameter.model_copy(update={"low": bounds[0], "high": bounds[1]})


def _edge(parameter: Parameter, value: Any) -> Edge | None:
    if isinstance(parameter, CategoricalParameter):
        numbers = _numbers(parameter)
        place = numbers.index(value) / (len(numbers) - 1) if len(numbers) > 1 else 0.5
        near = 0.0
    else:
        low, high, at = (math.log(x) if parameter.log else x for x in (parameter.low, parameter.high, value))
        place, near = (at - low) / (high - low) if high > low else 0.5, NEAR
    if place <= near:
        return "smallest"
    return "largest" if place >= 1 - near else None


def _numbers(parameter: CategoricalParameter) -> list[float]:
    """Returns the choices in order; none where they are not all numbers."""
    numbers = [choice for choice in parameter.choices if isinstance(choice, int | float)]
    plain = len(numbers) == len(parameter.choices) and not any(isinstance(choice, bool) for choice in numbers)
    return sorted(set(numbers)) if plain else []


def _longer(parameter: CategoricalParameter, reached: Collection[Edge]) -> CategoricalParameter | None:
    numbers = _numbers(parameter)
    if len(numbers) < 2:
        return None
    more = []
    if "smallest" in reached:
        more.append(_next(numbers[1], numbers[0]))
    if "largest" in reached:
        more.append(_next(numbers[-2], numbers[-1]))
    whole = all(isinstance(number, int) for number in numbers)
    new = {round(number) if whole else _rounded(number) for number in more} - {*numbers}
    new = {number for number in new if number > 0 or numbers[0] <= 0}
    return parameter.model_copy(update={"choices": tuple(sorted({*numbers, *new}))}) if new else None


def _next(inner: float, outer: float) -> float:
    """Continues two numbers: in their ratio where they have one sign, else by their difference."""
    return outer * outer / inner if inner * outer > 0 else 2 * outer - inner


def _grown(low: float, high: float, log: bool, step: float | None) -> tuple[float, float]:
    if log:
        ratio = math.sqrt(high / low)
        return _rounded(low / ratio), _rounded(high * ratio)
    half = (high - low) / 2
    if step is not None:
        half = math.ceil(half / step) * step
        return low - half, high + half
    return _rounded(low - half), _rounded(high + half)


def _rounded(value: float) -> float:
    """Rounds to two digits."""
    return float(f"{value:.2g}")
