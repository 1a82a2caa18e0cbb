"""A search space from its YAML: what is wrong with it, how Optuna draws from it, and its grid."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import optuna

from advlora.config import TrialConfig, all_keys
from advlora.config.base import as_number
from advlora.errors import ConfigError, did_you_mean
from advlora_platform.study.parameters import (
    CategoricalParameter,
    Choice,
    FloatParameter,
    IntParameter,
    Space,
    extremes,
)

FIXED = {
    "protocol": "a sweep that may choose its own evaluator chooses a weak one",
    "seed": "a lucky seed is no setting",
    "resources": "it does not change what is learned",
}
"""Keys that must not vary, and why."""


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Draws the parameters that exist, those that others depend on first."""
    values: dict[str, Any] = {}
    for key in ordered(space):
        if _exists(space[key].when, values):
            values[key] = _draw(trial, key, space[key])
    return values


def distributions(space: Space, values: Mapping[str, Any]) -> dict[str, optuna.distributions.BaseDistribution]:
    """Returns Optuna's distribution of every parameter that `values` holds."""
    recorder = optuna.trial.FixedTrial(dict(values))
    suggest(recorder, space)  # type: ignore[arg-type]  # fulfils the same interface
    return dict(recorder.distributions)


def grid(space: Space) -> list[dict[str, Choice]]:
    """Lists every combination of a space in which each parameter is discrete; absent parameters make no copies."""
    keys = ordered(space)
    points = itertools.product(*(_levels(space[key]) for key in keys))
    combined = (dict(zip(keys, point, strict=True)) for point in points)
    existing = [tuple(_existing(space, point).items()) for point in combined]
    return [dict(point) for point in dict.fromkeys(existing)]


def ordered(space: Space) -> list[str]:
    """Returns the keys such that every parameter follows those that its existence depends on."""
    found: list[str] = []
    while rest := [key for key in space if key not in found]:
        ready = [key for key in rest if all(other in found for other in space[key].when)]
        if not ready:
            raise ConfigError(f"parameters {', '.join(rest)}: each depends on another one's 'when', in a circle")
        found += ready
    return found


def conditions(space: Space, key: str) -> dict[str, Choice]:
    """Returns the values that other parameters must have for one to exist, however indirectly."""
    found: dict[str, Choice] = {}
    for other, value in space[key].when.items():
        found |= conditions(space, other) | {other: value}
    return found


Resolve = Callable[[Mapping[str, Any]], TrialConfig]
"""Lays values over the base of a study, as `Study.trial_with` does."""


def check_space(space: Space, points: Sequence[Mapping[str, Any]], resolve: Resolve, where: str) -> list[str]:
    """Returns one sentence per problem of a space and of its known-good points.

    Args:
        space: The parameters.
        points: Values by key; what is left out is drawn.
        resolve: Makes a trial's configuration of values.
        where: Key of the space in the study, for messages.
    """
    problems = [*_key_problems(space, where), *_when_problems(space, where)]
    if problems:
        return problems
    try:
        ordered(space)
    except ConfigError as error:
        return [f"{where}: {problem}" for problem in error.problems]
    problems += _value_problems(space, resolve, where)
    for number, point in enumerate(points):
        problems += _point_problems(space, point, f"points[{number}]")
    return problems


def grid_problems(space: Space, trials: int, where: str) -> list[str]:
    """Says why a space has no grid, or one that does not fit the number of trials."""
    endless = [key for key, parameter in space.items() if isinstance(parameter, FloatParameter) and not parameter.step]
    if endless:
        return [f"{where}: sampler 'grid' needs a 'step' or 'choices' for {', '.join(endless)}"]
    size = len(grid(space))
    if size > trials:
        return [f"{where}: the grid has {size} points, but only {trials} trials are allowed; allow {size}"]
    return []


def read_point(space: Space, point: Mapping[str, Any]) -> dict[str, Any]:
    """Reads fractions such as `8/255` in a point."""
    return {key: as_number(value) if not _categorical(space[key]) else value for key, value in point.items()}


def _categorical(parameter: CategoricalParameter | IntParameter | FloatParameter) -> bool:
    return isinstance(parameter, CategoricalParameter)


def _exists(when: Mapping[str, Choice], values: Mapping[str, Any]) -> bool:
    return all(other in values and values[other] == value for other, value in when.items())


def _existing(space: Space, point: Mapping[str, Choice]) -> dict[str, Choice]:
    values: dict[str, Choice] = {}
    for key, value in point.items():
        if _exists(space[key].when, values):
            values[key] = value
    return values


def _draw(trial: optuna.Trial, key: str, parameter: CategoricalParameter | IntParameter | FloatParameter) -> Choice:
    if isinstance(parameter, CategoricalParameter):
        return trial.suggest_categorical(key, parameter.choices)  # type: ignore[no-any-return]
    if isinstance(parameter, IntParameter):
        return int(trial.suggest_int(key, parameter.low, parameter.high, step=parameter.step, log=parameter.log))
    return float(trial.suggest_float(key, parameter.low, parameter.high, step=parameter.step, log=parameter.log))


def _levels(parameter: CategoricalParameter | IntParameter | FloatParameter) -> tuple[Choice, ...]:
    if isinstance(parameter, CategoricalParameter):
        return parameter.choices
    if isinstance(parameter, IntParameter):
        return tuple(range(parameter.low, parameter.high + 1, parameter.step))
    assert parameter.step is not None, "checked by grid_problems"
    steps = int((parameter.high - parameter.low) / parameter.step + 1e-9)
    return tuple(parameter.low + parameter.step * number for number in range(steps + 1))


def _key_problems(space: Space, where: str) -> Iterator[str]:
    known = all_keys(TrialConfig)
    for key in space:
        head = key.partition(".")[0]
        if head in FIXED:
            yield f"{where}: '{key}' must not vary: {FIXED[head]}"
        elif key not in known:
            yield f"{where}: '{key}' is not a key of a trial{did_you_mean(key, known)}"


def _when_problems(space: Space, where: str) -> Iterator[str]:
    for key, parameter in space.items():
        for other, value in parameter.when.items():
            if other not in space:
                yield f"{where}.{key}.when: '{other}' is not a parameter of this space{did_you_mean(other, space)}"
            elif not _contains(space[other], value):
                yield f"{where}.{key}.when: '{other}' never is {value!r}; it is {_range(space[other])}"


def _value_problems(space: Space, resolve: Resolve, where: str) -> Iterable[str]:
    for key, parameter in space.items():
        for value in extremes(parameter):
            try:
                resolve({**conditions(space, key), key: value})
            except ConfigError as error:
                yield from (f"{where}.{key} = {value}: {problem}" for problem in error.problems)


def _point_problems(space: Space, point: Mapping[str, Any], where: str) -> Iterator[str]:
    for key, value in point.items():
        if key not in space:
            yield f"{where}: '{key}' is not a parameter of this space{did_you_mean(key, space)}"
        elif not _contains(space[key], value if _categorical(space[key]) else as_number(value)):
            yield f"{where}.{key}: {value!r} is not allowed; allowed: {_range(space[key])}"


def _contains(parameter: CategoricalParameter | IntParameter | FloatParameter, value: Any) -> bool:
    if isinstance(parameter, CategoricalParameter):
        return any(
            value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in parameter.choices
        )
    kinds = (int,) if isinstance(parameter, IntParameter) else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and parameter.low <= value <= parameter.high


def _range(parameter: CategoricalParameter | IntParameter | FloatParameter) -> str:
    if isinstance(parameter, CategoricalParameter):
        return ", ".join(map(repr, parameter.choices))
    return f"from {parameter.low:g} to {parameter.high:g}"
