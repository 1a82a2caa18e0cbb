"""`GuardFinding`: what one check found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from advlora.metrics import Metric


@dataclass(frozen=True)
class GuardFinding:
    """One check.

    Attributes:
        name: Such as `monotone`; the metric is `guard/monotone`.
        ok: Whether the number can be trusted as far as this check can see.
        value: What was measured; see `reason` for its meaning.
        reason: One clause that says what was found, good or bad.
    """

    name: str
    ok: bool
    value: float
    reason: str


def guard_metrics(findings: Iterable[GuardFinding]) -> dict[str, float]:
    """Returns the measured values by metric name, and `guard/unreliable`: the number of checks that failed."""
    findings = list(findings)
    values = {Metric("guard", finding.name): finding.value for finding in findings}
    values[Metric("guard", "unreliable")] = float(sum(not finding.ok for finding in findings))
    return {str(metric): value for metric, value in values.items()}


def unreliable(findings: Iterable[GuardFinding]) -> str | None:
    """Returns why the numbers cannot be trusted, or None if they can as far as the checks can see."""
    return "; ".join(f"{finding.name}: {finding.reason}" for finding in findings if not finding.ok) or None
