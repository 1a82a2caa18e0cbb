"""How numbers and names are written for people: accuracies in percent, differences in points, costs in short."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from advlora.metrics import COSTS, SIZES, Metric, readable_epsilon
from advlora_platform.analysis import Contrast, Estimate, TrialResult

ABSENT = "–"
SECONDS, FLOPS, FORWARDS, _ = map(str, COSTS)
_, TRAINED_SHARE = map(str, SIZES)
HEADINGS = {SECONDS: "training s", FLOPS: "training FLOP", FORWARDS: "image passes"}
"""Headings of metrics that are not measured on data."""


class Quantity(str):
    """A number as people read it, which remembers what it is.

    Attributes:
        numbers: The value, and the ends of its interval where it has one, in the unit that is shown.
    """

    numbers: tuple[float, ...]

    def __new__(cls, text: str, *numbers: float) -> Quantity:
        """Takes the text, and the numbers that it stands for."""
        quantity = super().__new__(cls, text)
        quantity.numbers = numbers
        return quantity


def percent(value: float | None) -> str:
    """Writes an accuracy such as `57.3`; the unit stands in the heading."""
    return ABSENT if value is None else Quantity(f"{_zeroed(100 * value):.1f}", 100 * value)


def points(value: float | None) -> str:
    """Writes a difference of accuracies such as `+1.9`."""
    return ABSENT if value is None else Quantity(f"{_zeroed(100 * value):+.1f}", 100 * value)


def mean_with_margin(mean: Estimate | None) -> str:
    """Writes `57.3 ± 1.2`, the margin being half the interval; without one for a single seed."""
    if mean is None:
        return ABSENT
    margin = "" if mean.half_width is None else f" ± {percent(mean.half_width)}"
    return Quantity(percent(mean.mean) + margin, *_numbers(mean))


def mean_with_interval(mean: Estimate | None) -> str:
    """Writes `57.3 (56.1 to 58.5)`."""
    if mean is None:
        return ABSENT
    bounds = "" if mean.low is None else f" ({percent(mean.low)} to {percent(mean.high)})"
    return Quantity(percent(mean.mean) + bounds, *_numbers(mean))


def measured_with_interval(metric: str, mean: Estimate | None) -> str:
    """Writes the mean of any metric with its interval."""
    if Metric.parse(metric).on_data or mean is None:
        return mean_with_interval(mean)
    ends = (mean.mean,) if mean.low is None or mean.high is None else (mean.mean, mean.low, mean.high)
    texts = [measured(metric, value) for value in ends]
    return Quantity(texts[0] + (f" ({texts[1]} to {texts[2]})" if len(texts) > 1 else ""), *ends)


def difference(contrast: Contrast) -> str:
    """Writes `+1.9 (+0.7 to +3.1)`."""
    found = contrast.estimate
    if found is None:
        return ABSENT
    bounds = "" if found.low is None else f" ({points(found.low)} to {points(found.high)})"
    return Quantity(points(found.mean) + bounds, *_numbers(found))


def _numbers(mean: Estimate) -> tuple[float, ...]:
    """Returns mean, low and high in percent."""
    return tuple(100 * value for value in (mean.mean, mean.low, mean.high) if value is not None)


def probability(p: float | None) -> str:
    """Writes a p-value to three digits after the point."""
    if p is None:
        return ABSENT
    return Quantity("< 0.001" if p < 0.001 else f"{p:.3f}", p)


def amount(value: float | None) -> str:
    """Writes a cost in at most five characters, such as `37.4`, `812`, `1.2M` or `41.3T`."""
    return ABSENT if value is None else Quantity(_short(value), value)


def amount_of_difference(value: float | None) -> str:
    """Writes a difference of what is no share of examples, such as `+120` or `-0.3`."""
    return ABSENT if value is None else Quantity(f"{value:+.3g}", value)


def _short(value: float) -> str:
    for size, suffix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if suffix == 'k' else size):.3g}{suffix}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def share(value: float | None) -> str:
    """Writes a share of parameters in percent, with a digit more than accuracies have."""
    return ABSENT if value is None else Quantity(f"{100 * value:.2f}", 100 * value)


def measured(metric: str, value: float | None) -> str:
    """Writes the value of any metric."""
    if Metric.parse(metric).on_data:
        return percent(value)
    return share(value) if metric == TRAINED_SHARE else amount(value)


def title_of(metric: str) -> str:
    """Writes a metric as a heading, such as `val robust 8/255 (%)`."""
    found = Metric.parse(metric)
    if not found.on_data:
        return HEADINGS.get(metric, metric)
    short = {Metric.clean(found.split).name: "clean", Metric.robust(found.split, 0).name: "robust"}
    *places, number = found.name.split("/")
    words = [*(places or [found.split]), short.get(number, number.replace("_", " "))]
    return " ".join([*words, *([] if found.epsilon is None else [readable_epsilon(found.epsilon)])]) + " (%)"


def short_titles(metrics: Collection[str]) -> dict[str, str]:
    """Writes metrics on `test` as briefly as they can be told apart, such as `robust`, or `robust 8/255`."""
    titles = {metric: title_of(metric).removesuffix(" (%)").removeprefix("test ") for metric in metrics}
    bare = {metric: re.sub(r" [\d/.]+$", "", title) for metric, title in titles.items()}
    return {metric: name if list(bare.values()).count(name) == 1 else titles[metric] for metric, name in bare.items()}


def status_of(trial: TrialResult) -> str:
    """Writes a status, with the class of a failure."""
    if trial.status == "stopped":
        return "stopped early"
    if trial.unreliable:
        return f"{trial.status}, not reliable"
    return trial.status if trial.failure is None else f"{trial.status} ({trial.failure.kind.replace('_', ' ')})"


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Returns the shortest ending of each dotted key that no other key has.

    A switch is named by what it switches, and the kind of a method by what the method is for.
    """
    bare = {key: f".{key.removesuffix('.enabled').removesuffix('.kind')}" for key in keys}
    return {key: _ending(name, [other for other in bare.values() if other != name]) for key, name in bare.items()}


def _ending(name: str, others: Sequence[str]) -> str:
    parts = name.split(".")
    endings = [".".join(parts[-length:]) for length in range(1, len(parts))]
    return next((end for end in endings if not any(other.endswith(f".{end}") for other in others)), name[1:])


def assignments(values: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Writes values such as `rank=8, learning_rate=0.0021`."""
    return ", ".join(f"{names.get(key, key)}={setting(value)}" for key, value in values.items())


def setting(value: Any) -> str:
    """Writes one value of a configuration."""
    if isinstance(value, bool) or value is None:
        return {True: "on", False: "off", None: "none"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _zeroed(value: float) -> float:
    """Avoids `-0.0`."""
    return round(value, 1) + 0.0
