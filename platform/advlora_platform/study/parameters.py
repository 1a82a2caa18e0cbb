"""A search space in a study's YAML: parameters with their ranges, and the sampler that draws from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from advlora.config.base import Count, Ratio, Section, Whole

Choice = bool | int | float | str | None


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


When = dict[
    str,
    Annotated[
        tuple[Choice, ...], Field(min_length=1), BeforeValidator(_listed, json_schema_input_type=Choice | list[Choice])
    ],
]
"""Other parameters, and the value or the values at which this one exists."""


class CategoricalParameter(Section):
    """One of a list of values, without order."""

    type: Literal["categorical"]
    """What values the parameter takes."""
    choices: Annotated[tuple[Choice, ...], Field(min_length=1)]
    """The values."""
    when: When = {}
    """Other parameters, and the values at which this one exists."""


class IntParameter(Section):
    """A whole number from `low` to `high`, both included."""

    type: Literal["int"]
    """What values the parameter takes."""
    low: Whole
    """Smallest value."""
    high: Whole
    """Largest value."""
    step: Count = 1
    """Distance between neighbouring values."""
    log: bool = False
    """Whether it is drawn on a logarithmic scale."""
    when: When = {}
    """Other parameters, and the values at which this one exists."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_bounds(self.low, self.high, self.log)
        if self.log and self.step != 1:
            raise ValueError("a parameter on a log scale takes no step")
        return self


class FloatParameter(Section):
    """A real number from `low` to `high`; bounds may be written as fractions (`4/255`)."""

    type: Literal["float"]
    """What values the parameter takes."""
    low: Ratio
    """Smallest value."""
    high: Ratio
    """Largest value."""
    step: Annotated[Ratio, Field(gt=0)] | None = None
    """Distance between neighbouring values."""
    log: bool = False
    """Whether it is drawn on a logarithmic scale."""
    when: When = {}
    """Other parameters, and the values at which this one exists."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_bounds(self.low, self.high, self.log)
        if self.log and self.step is not None:
            raise ValueError("a parameter on a log scale takes no step")
        return self


def _check_bounds(low: float, high: float, log: bool) -> None:
    if low > high:
        raise ValueError(f"low {low:g} is above high {high:g}")
    if log and low <= 0:
        raise ValueError(f"low {low:g} must be positive on a log scale")


def extremes(parameter: CategoricalParameter | IntParameter | FloatParameter) -> tuple[Choice, ...]:
    """Returns the values at the edges of a parameter, where a configuration is most likely to be impossible."""
    if isinstance(parameter, CategoricalParameter):
        return parameter.choices
    return (parameter.low, parameter.high)


Parameter = Annotated[CategoricalParameter | IntParameter | FloatParameter, Field(discriminator="type")]
Space = dict[str, Parameter]

Sampler = Literal["tpe", "gp", "cma-es", "nsga-ii", "random", "grid"]
