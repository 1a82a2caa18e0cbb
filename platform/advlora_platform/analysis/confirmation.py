"""What a strong evaluation on fresh seeds said of a sweep's finalists, and how far the search had misjudged them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import spearmanr

from advlora.metrics import Metric
from advlora_platform.analysis.arms import ArmResult
from advlora_platform.analysis.estimates import Estimate, estimate
from advlora_platform.analysis.metrics import Metrics, metrics_of
from advlora_platform.analysis.sweeps import SweepResult
from advlora_platform.search.finalists import finalist_name
from advlora_platform.search.plan import ArmPlan
from advlora_platform.study.sweep import SweepStudy

ENOUGH = 3
"""With fewer finalists no rank correlation is stated."""


@dataclass(frozen=True)
class Confirmation:
    """The second stage of a sweep.

    Attributes:
        protocol: The strong evaluation, in one clause.
        metrics: What the finalists are judged by.
        searched: Finalist -> value of the search's first objective, under the cheap evaluation.
        confirmed: Finalist -> mean of the selecting metric over the fresh seeds; of complete finalists.
        unreliable: Finalists of which a trial failed a check of the evaluation; they cannot win.
        rank_correlation: Spearman's, of the two values over complete finalists; None with too few of them.
        optimism: By how much the value in the search is better than the confirmed ones, of the finalist that the search
            ranked first: what quoting the search would have promised too much. None until that finalist is complete.
    """

    protocol: str
    metrics: Metrics
    searched: dict[str, float]
    confirmed: dict[str, float]
    unreliable: tuple[str, ...]
    rank_correlation: float | None
    optimism: Estimate | None

    def reliable(self, arms: Sequence[ArmResult]) -> list[ArmResult]:
        """Returns the finalists that may win."""
        return [arm for arm in arms if arm.name not in self.unreliable]


def confirmation(
    study: SweepStudy,
    arms: Sequence[ArmResult],
    plans: Sequence[ArmPlan],
    found: SweepResult,
    confidence: float,
    classes: int,
) -> Confirmation | None:
    """Evaluates the second stage; None where the study has none.

    Args:
        study: The study.
        arms: The finalists with their trials.
        plans: What was planned for them.
        found: What the search found.
        confidence: Of the intervals.
        classes: Number of classes of the data set.
    """
    if study.confirm is None:
        return None
    protocol = study.confirm.protocol
    metrics = metrics_of(protocol, str(study.objectives(protocol)[0]), transfer=study.transfer_names)
    first = str(study.objectives()[0])
    values = {finalist_name(str(t.trial_id)): t.metrics[first] for t in found.trials if first in t.metrics}
    searched = {plan.arm.name: values[plan.arm.name] for plan in plans}
    complete = [arm for arm in arms if arm.complete and metrics.selecting in arm.estimates]
    confirmed = {arm.name: arm.estimates[metrics.selecting].mean for arm in complete}
    return Confirmation(
        protocol=protocol.describe(classes),
        metrics=metrics,
        searched=searched,
        confirmed=confirmed,
        unreliable=tuple(arm.name for arm in arms if not arm.reliable),
        rank_correlation=_rank_correlation([(searched[name], value) for name, value in confirmed.items()]),
        optimism=_optimism(arms[:1], searched, metrics.selecting, confidence),
    )


def _rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    cheap, strong = ({pair[side] for pair in pairs} for side in (0, 1))
    if len(pairs) < ENOUGH or len(cheap) == 1 or len(strong) == 1:
        return None
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def _optimism(
    leader: Sequence[ArmResult], searched: dict[str, float], metric: str, confidence: float
) -> Estimate | None:
    sign = 1 if Metric.parse(metric).direction == "max" else -1
    differences = [
        sign * (searched[arm.name] - value) for arm in leader if arm.complete for value in arm.by_seed(metric).values()
    ]
    return estimate(differences, confidence)
