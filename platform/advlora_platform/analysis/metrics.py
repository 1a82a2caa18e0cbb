"""The names of the metrics that a study is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from advlora.config import EvaluationProtocol
from advlora.metrics import Metric


@dataclass(frozen=True)
class Metrics:
    """The names of the metrics that a study is judged by.

    Attributes:
        selecting: Chooses the best; on `val`.
        val_robust: Robust accuracy at the protocol's main epsilon.
        val_clean: Clean accuracy.
        test_robust: The same on `test`, for trials that are reported.
        test_clean: The same on `test`.
        curve: Robust accuracy on `test` -> its epsilon, ascending, the main epsilon included; empty without a curve.
        further: What the study reports beside these; means over the further data sets first.
        transfer: Names of the further data sets.
    """

    selecting: str
    val_robust: str
    val_clean: str
    test_robust: str
    test_clean: str
    curve: dict[str, float]
    further: tuple[str, ...] = ()
    transfer: tuple[str, ...] = ()


def metrics_of(
    protocol: EvaluationProtocol,
    selecting: str | None = None,
    report: Sequence[str] = (),
    transfer: tuple[str, ...] = (),
) -> Metrics:
    """Returns the metrics of a protocol; robust accuracy on `val` selects unless another one does.

    Args:
        protocol: The evaluation.
        selecting: Chooses the best.
        report: Further metrics; those that are shown anyway are left out.
        transfer: Names of the further data sets, over which the means of robust and clean accuracy are reported too.
    """
    epsilon, curve = protocol.epsilon, protocol.curve
    epsilons = sorted({epsilon, *curve}) if curve else []
    shown = (str(Metric.robust("test", epsilon)), str(Metric.clean("test")), str(Metric.robust("val", epsilon)))
    means = [str(metric.transferred()) for metric in (Metric.robust("test", epsilon), Metric.clean("test"))]
    reported = dict.fromkeys((*(means if transfer else ()), *report))
    return Metrics(
        selecting=selecting or str(Metric.robust("val", epsilon)),
        val_robust=str(Metric.robust("val", epsilon)),
        val_clean=str(Metric.clean("val")),
        test_robust=str(Metric.robust("test", epsilon)),
        test_clean=str(Metric.clean("test")),
        curve={str(Metric.robust("test", epsilon)): epsilon for epsilon in epsilons},
        further=tuple(metric for metric in reported if metric not in shown),
        transfer=transfer,
    )
