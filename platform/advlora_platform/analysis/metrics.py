"""The names of the metrics that a study is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from advlora.config import EvaluationProtocol, clean_metric, robust_metric


@dataclass(frozen=True)
class Metrics:
    """The names of the metrics that a study is judged by.

    Attributes:
        selecting: Chooses the best; on `val`.
        val_robust: Robust accuracy at the protocol's main strength.
        val_clean: Clean accuracy.
        test_robust: The same on `test`, for cells that are reported.
        test_clean: The same on `test`.
        curve: Robust accuracy on `test` -> its radius, ascending, the main strength included; empty without a curve.
        further: What the study reports beside these.
    """

    selecting: str
    val_robust: str
    val_clean: str
    test_robust: str
    test_clean: str
    curve: dict[str, float]
    further: tuple[str, ...] = ()


def judging(protocol: EvaluationProtocol, selecting: str | None = None, report: Sequence[str] = ()) -> Metrics:
    """Returns the metrics of a protocol; robust accuracy on `val` selects unless another one does.

    Args:
        protocol: The examination.
        selecting: Chooses the best.
        report: Further metrics; those that are shown anyway are left out.
    """
    epsilon, curve = protocol.epsilon, protocol.curve
    strengths = sorted({epsilon, *curve}) if curve else []
    shown = (robust_metric("test", epsilon), clean_metric("test"), robust_metric("val", epsilon))
    return Metrics(
        selecting=selecting or robust_metric("val", epsilon),
        val_robust=robust_metric("val", epsilon),
        val_clean=clean_metric("val"),
        test_robust=robust_metric("test", epsilon),
        test_clean=clean_metric("test"),
        curve={robust_metric("test", strength): strength for strength in strengths},
        further=tuple(metric for metric in dict.fromkeys(report) if metric not in shown),
    )
