"""The base of every configuration section and the types that several sections share."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A frozen part of a configuration; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def as_number(value: Any) -> Any:
    """Reads `"8/255"` as the number it is; anything else is left to pydantic."""
    if isinstance(value, str) and "/" in value:
        try:
            return float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError):
            return value
    return value


Ratio = Annotated[float, BeforeValidator(as_number)]
"""A number that may be written as a fraction, such as `4/255`."""

Epsilon = Annotated[Ratio, Field(ge=0, le=1)]
"""Radius of an L-inf ball in pixel space [0, 1]."""

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
