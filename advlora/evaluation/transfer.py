"""A model on the data sets that it is taken to: each under the protocol of its own data set, and the mean over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from torch import Tensor

from advlora.config import SamplesConfig
from advlora.data.transfer import NamedSet, measured_split
from advlora.evaluation.evaluator import Evaluator, Measurement
from advlora.metrics import Metric
from advlora.progress import told


def transfer_evaluator(evaluator: Evaluator, data: NamedSet) -> tuple[Evaluator, str]:
    """Returns what measures the model on a further set, and on which split; samples are as many as those of `test`."""
    count = evaluator.protocol.samples.test
    protocol = evaluator.protocol.model_copy(update={"samples": SamplesConfig(val=count, test=count)})
    split = measured_split(data.manifest)
    assert split is not None, "a set without samples is refused before"
    return replace(evaluator, data=data.data, protocol=protocol), split


def measure_transfer(evaluator: Evaluator, sets: Sequence[NamedSet]) -> Measurement:
    """Measures a model on every set, with the curve of the protocol.

    Args:
        evaluator: The model under its protocol.
        sets: The sets, all with classes.

    Returns:
        Numbers by set, and the mean of each over the sets: `test/transfer/cars/clean_r1` and `test/transfer/clean_r1`.

    Raises:
        DataError: If a file is missing or damaged.
        NotFinite: If features, logits or gradients are not finite.
    """
    metrics: dict[str, float] = {}
    examples: dict[str, Tensor] = {}
    over_sets: dict[str, list[float]] = {}
    for done, data in enumerate(sets):
        told(f"transfer sets, now {data.name}", done, len(sets))
        own, split = transfer_evaluator(evaluator, data)
        measured = own.measure(split, curve=True)
        for name, value in measured.metrics.items():
            metrics[str(Metric.parse(name).transferred(data.name))] = value
            over_sets.setdefault(str(Metric.parse(name).transferred()), []).append(value)
        examples |= {str(Metric.parse(name).transferred(data.name)): row for name, row in measured.examples.items()}
    return Measurement(metrics | {name: fmean(values) for name, values in over_sets.items()}, examples)
