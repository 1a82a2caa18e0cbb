"""A search space from its YAML: what is wrong with it, how Optuna draws from it, and its grid."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from advlora.config import TrialConfig, all_keys, in_effect, kind_path, parse, renamed_key, spelled, vary
from advlora.config.base import as_number
from advlora.errors import ConfigError, did_you_mean
from advlora_platform.study.parameters import (
    CategoricalParameter,
    Choice,
    FloatParameter,
    IntParameter,
    Space,
    When,
    extremes,
)

if TYPE_CHECKING:
    import optuna

FIXED = {
    "protocol": "a sweep that may choose its own evaluator chooses a weak one",
    "seed": "a lucky seed is no setting",
    "resources": "it does not change what is learned",
}
"""Keys that must not vary, and why."""
LARGEST_GRID = 100_000
"""A grid of more points is not listed to be counted."""


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Draws the parameters that exist, those that others depend on first."""
    values: dict[str, Any] = {}
    for key in ordered(space):
        if _exists(space[key].when, values):
            values[key] = _draw(trial, key, space[key])
    return values


def distributions(space: Space, values: Mapping[str, Any]) -> dict[str, optuna.distributions.BaseDistribution]:
    """Returns Optuna's distribution of every parameter that `values` holds."""
    import optuna

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


def with_conditions(space: Space, values: Mapping[str, Choice]) -> dict[str, Choice] | None:
    """Adds to the values of some parameters those that others must have for them to exist, however indirectly.

    Returns:
        All of these values; None where the parameters never exist together.
    """
    allowed: dict[str, tuple[Choice, ...]] = {key: (value,) for key, value in values.items()}
    waiting = list(values)
    while waiting:
        for other, wanted in space[waiting.pop()].when.items():
            waiting += [] if other in allowed else [other]
            allowed[other] = tuple(value for value in allowed.get(other, wanted) if value in wanted)
    return {key: options[0] for key, options in allowed.items()} if all(allowed.values()) else None


def remaining(space: Space, base: Mapping[str, Any], values: Mapping[str, Any]) -> Space:
    """Returns what is left of a space where some values are fixed.

    Parameters that they set, or that have no effect with the methods that they choose, are left out.

    Raises:
        ConfigError: If the configuration with these values is impossible.
    """
    fixed, tree = spelled(TrialConfig, values), parse(TrialConfig, vary(TrialConfig, base, values)).model_dump()
    left: Space = {}
    for key in ordered(space):
        when = space[key].when
        met = all(_value_at(tree, other) in wanted for other, wanted in when.items() if other not in left)
        if not met or kind_path(TrialConfig, key) in fixed:
            continue
        parameter = space[key].model_copy(update={"when": {other: when[other] for other in when if other in left}})
        around = with_conditions({**left, key: parameter}, {key: None}) or {}
        around.pop(key, None)
        if in_effect(TrialConfig, vary(TrialConfig, tree, around), key):
            left[key] = parameter
    return {key: left[key] for key in space if key in left}


def _value_at(tree: Mapping[str, Any], path: str) -> Any:
    node: Any = tree
    for part in kind_path(TrialConfig, path).split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


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
    if problems := check_keys(space, where):
        return problems
    problems = list(check_values(space, resolve, where))
    for number, point in enumerate(points):
        problems += _point_problems(space, point, f"points[{number}]")
    return problems


def check_keys(space: Space, where: str) -> list[str]:
    """Returns what is wrong with the keys of a space and the conditions of its parameters."""
    if problems := [*_key_problems(space, where), *_when_problems(space, where)]:
        return problems
    try:
        ordered(space)
    except ConfigError as error:
        return [f"{where}: {problem}" for problem in error.problems]
    return []


def grid_problems(space: Space, trials: int, where: str) -> list[str]:
    """Says why a space has no grid, or one that does not fit the number of trials."""
    endless = [key for key, parameter in space.items() if isinstance(parameter, FloatParameter) and not parameter.step]
    if endless:
        return [f"{where}: sampler 'grid' needs a 'step' or 'choices' for {', '.join(endless)}"]
    bound = prod(_level_count(parameter) for parameter in space.values())
    size = bound if bound > LARGEST_GRID else len(grid(space))
    if size > trials:
        return [f"{where}: the grid has {size} points, but only {trials} trials are allowed; allow {size}"]
    return []


def read_point(space: Space, point: Mapping[str, Any]) -> dict[str, Any]:
    """Reads fractions such as `8/255` in a point."""
    return {key: as_number(value) if not _categorical(space[key]) else value for key, value in point.items()}


def _categorical(parameter: CategoricalParameter | IntParameter | FloatParameter) -> bool:
    return isinstance(parameter, CategoricalParameter)


def _exists(when: When, values: Mapping[str, Any]) -> bool:
    return all(other in values and values[other] in wanted for other, wanted in when.items())


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


def _level_count(parameter: CategoricalParameter | IntParameter | FloatParameter) -> int:
    if isinstance(parameter, CategoricalParameter):
        return len(parameter.choices)
    return int((parameter.high - parameter.low) / (parameter.step or 1) + 1e-9) + 1


def _levels(parameter: CategoricalParameter | IntParameter | FloatParameter) -> tuple[Choice, ...]:
    if isinstance(parameter, CategoricalParameter):
        return parameter.choices
    if isinstance(parameter, IntParameter):
        return tuple(range(parameter.low, parameter.high + 1, parameter.step))
    assert parameter.step is not None, "checked by grid_problems"
    steps = int((parameter.high - parameter.low) / parameter.step + 1e-9)
    return tuple(parameter.low + parameter.step * number for number in range(steps + 1))


def _key_problems(space: Space, where: str) -> Iterator[str]:
    for key in space:
        head = key.partition(".")[0]
        if head in FIXED:
            yield f"{where}: '{key}' must not vary: {FIXED[head]}"
        elif problem := no_key(key):
            yield f"{where}: {problem}"


def no_key(key: str) -> str | None:
    """Says that no trial has a key, and what was probably meant; None for a key that some trial has."""
    known = all_keys(TrialConfig)
    if key in known:
        return None
    renamed = renamed_key(key)
    return f"'{key}' is not a key of a trial{f'; {renamed}' if renamed else did_you_mean(key, known)}"


def _when_problems(space: Space, where: str) -> Iterator[str]:
    for key, parameter in space.items():
        for other, wanted in parameter.when.items():
            if other not in space:
                yield f"{where}.{key}.when: '{other}' is not a parameter of this space{did_you_mean(other, space)}"
                continue
            for value in wanted:
                if not _contains(space[other], value):
                    yield f"{where}.{key}.when: '{other}' never is {value!r}; it is {_range(space[other])}"


def check_values(space: Space, resolve: Resolve, where: str) -> Iterator[str]:
    """Tries every parameter at its edges, alone and then beside every other one; the keys must be sound."""
    edges = [(key, value) for key, parameter in space.items() for value in extremes(parameter)]
    possible = []
    for key, value in edges:
        problems = _impossible(space, resolve, {key: value})
        yield from (f"{where}.{key} = {value}: {problem}" for problem in problems)
        possible += [] if problems else [(key, value)]
    found = set()
    for (key, value), (other, its) in itertools.combinations(possible, 2):
        if key == other or (key, other) in found:
            continue
        for problem in _impossible(space, resolve, {key: value, other: its}):
            found.add((key, other))
            yield f"{where}: {key} = {value} does not go with {other} = {its}, which a 'when' can rule out: {problem}"


def _impossible(space: Space, resolve: Resolve, values: Mapping[str, Choice]) -> list[str]:
    """Returns what is wrong with a configuration; nothing where the space never draws it."""
    drawn = with_conditions(space, values)
    try:
        if drawn is not None:
            resolve(drawn)
    except ConfigError as error:
        return error.problems
    return []


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
