"""A constraint on what a study recommends, such as `params/trainable_fraction <= 0.1` or `clean >= 80 %`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from advlora.metrics import Metric

_PATTERN = re.compile(r"\s*(?P<metric>\S+)\s*(?P<sense><=|>=)\s*(?P<bound>[-+.\deE]+)\s*(?P<percent>%?)\s*")


@dataclass(frozen=True)
class Constraint:
    """A bound on a metric of a finished trial, or on its mean over seeds.

    Attributes:
        metric: Its name.
        least: Whether the bound is the smallest value allowed, else the largest.
        bound: The bound, inclusive; shares are fractions of 1.
    """

    metric: str
    least: bool
    bound: float

    def __str__(self) -> str:
        return f"{self.metric} {'>=' if self.least else '<='} {self.bound:.10g}"

    def met(self, metrics: Mapping[str, float]) -> bool:
        """Whether metrics keep the bound; what is not measured does not."""
        value = metrics.get(self.metric)
        return value is not None and (value >= self.bound if self.least else value <= self.bound)


def parse_constraint(text: str, short: Mapping[str, Metric]) -> Constraint:
    """Reads a constraint.

    Args:
        text: Metric, `<=` or `>=`, and a number, which may be in percent.
        short: Short names of metrics, such as `clean`.

    Raises:
        ValueError: If the text says something else.
    """
    found = _PATTERN.fullmatch(text)
    try:
        bound = float(found["bound"]) if found else None
    except ValueError:
        bound = None
    if found is None or bound is None:
        raise ValueError(f"'{text}' is not a constraint, such as 'params/trainable_fraction <= 0.1' or 'clean >= 80 %'")
    name = str(short.get(found["metric"], found["metric"]))
    return Constraint(name, found["sense"] == ">=", bound / 100 if found["percent"] else bound)


def all_met(constraints: Iterable[Constraint], metrics: Mapping[str, float]) -> bool:
    """Whether metrics keep every bound."""
    return all(constraint.met(metrics) for constraint in constraints)
