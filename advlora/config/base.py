"""The base of every configuration section, and the types that several sections share."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from advlora.reading import as_text


class Section(BaseModel):
    """A frozen part of a configuration; unknown keys and infinite numbers are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


def given(section: BaseModel, *keys: str) -> list[str]:
    """Returns which of some keys were set to something else than their default."""
    defaults = type(section).model_fields
    return [key for key in keys if getattr(section, key) != defaults[key].default]


class Switch(Section):
    """A part of a method that can be switched off; its other keys then have no effect, and are refused."""

    enabled: bool = True
    """Whether this part is on."""

    @model_validator(mode="after")
    def _no_key_of_what_is_off(self) -> Self:
        if not self.enabled and (idle := given(self, *sorted({*type(self).model_fields} - {"enabled"}))):
            raise ValueError(f"with enabled: false, {', '.join(idle)} has no effect; leave it out")
        return self


def default_kind(kind: str) -> BeforeValidator:
    """Lets a section of a family of methods leave out its kind, or be nothing but its kind.

    A family is a union of sections that differ in a literal `kind`: each holds exactly the keys that its method takes.
    `attack: none` is short for `attack: {kind: none}`, and without `kind` it is `kind`.
    """

    def expand(value: Any) -> Any:
        if isinstance(value, str):
            return {"kind": value}
        return {"kind": kind, **value} if isinstance(value, Mapping) and "kind" not in value else value

    return BeforeValidator(expand)


def as_number(value: Any) -> Any:
    """Reads `"8/255"` as the number it is; anything else is left to pydantic."""
    if isinstance(value, str) and "/" in value:
        try:
            return float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError):
            return value
    return value


Text = Annotated[str, BeforeValidator(as_text)]
"""Text that may look like a number, such as the revision `6812e59`."""

Real = Annotated[float, Field(strict=True)]
"""A finite number."""
Positive = Annotated[Real, Field(gt=0)]
Weight = Annotated[Real, Field(ge=0)]
Share = Annotated[Real, Field(ge=0, le=1)]

Ratio = Annotated[Real, BeforeValidator(as_number, json_schema_input_type=float | str)]
"""A number that may be written as a fraction, such as `4/255`."""

Epsilon = Annotated[Ratio, Field(ge=0)]
"""Size of a perturbation: of every pixel in L-inf (at most 1, the whole range), its Euclidean length in L2."""

Whole = Annotated[int, Field(strict=True, gt=-(2**31), lt=2**31)]
Count = Annotated[Whole, Field(ge=1)]
Amount = Annotated[Whole, Field(ge=0)]
"""A count that may be 0."""
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
"""What the samplers of Optuna take too."""
