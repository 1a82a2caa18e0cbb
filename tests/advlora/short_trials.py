"""Trials that take about a second, and an evaluation to match."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from advlora.config import (
    AdapterConfig,
    EvaluationAttackConfig,
    EvaluationProtocol,
    GuardConfig,
    SamplesConfig,
    TrialConfig,
    parse,
    vary,
)
from advlora.config.evaluation_attacks import Pgd

SHORT = {
    "data.train_samples": 48,
    "optimiser.batch_size": 16,
    "optimiser.epochs": 3,
    "adapter.rank": 4,
    "adapter.target": "attention-qv",
    "attack.steps": 1,
}
PROTOCOL = EvaluationProtocol(
    attacks=(Pgd(steps=2),),
    epsilon=4 / 255,
    curve=(8 / 255,),
    samples=SamplesConfig(val=48, test=32),
    batch_size=48,
    guards=GuardConfig(enabled=False),
)
FINISHED = {"adapter.dropout": 0.2}
"""With dropout, so that a continued training has to draw the same masks."""
MEASURED = {"cost/seconds", "cost/peak_memory_mb"}


def trial(values: Mapping[str, Any] | None = None) -> TrialConfig:
    return parse(TrialConfig, vary(TrialConfig, vary(TrialConfig, {}, SHORT), values or {}))


def adapter(kind: str = "lora", **values: Any) -> AdapterConfig:
    """An adapter, of rank 4 where its kind has a rank."""
    chosen = vary(TrialConfig, {"adapter": {"rank": 4}}, {"adapter.kind": kind})["adapter"]
    return parse(TrialConfig, {"adapter": {**chosen, **values}}).adapter


def evaluation(**values: Any) -> EvaluationProtocol:
    return parse(EvaluationProtocol, PROTOCOL.model_dump() | values)


def evaluation_attack(**values: Any) -> EvaluationAttackConfig:
    """Returns an attack as a protocol names it."""
    return parse(EvaluationProtocol, {"attacks": [values]}).attacks[0]


def numbers(report: Any) -> dict[str, float]:
    """Returns the metrics that a repetition has to give again."""
    assert all(math.isfinite(value) for value in report.metrics.values())
    return {name: value for name, value in report.metrics.items() if name not in MEASURED}
