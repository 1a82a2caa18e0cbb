"""A contrast: a difference that is paired by seed, with its interval and a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from advlora.metrics import Metric
from advlora_platform.analysis.estimates import Estimate, estimate, holm, more_seeds, p_value
from advlora_platform.analysis.words import plural

Outcome = Literal["positive", "negative", "unresolved", "none", "unmeasured"]
"""`none`: no effect, or one too small for a hundred more seeds to show."""

PATIENCE = 100
"""An effect that needs more further seeds than this is called none."""


@dataclass(frozen=True)
class Wording:
    """How a verdict names the two directions."""

    positive: str
    negative: str


@dataclass(frozen=True)
class Contrast:
    """The answer to one question about one metric.

    Attributes:
        name: The factor, the pair of factors, or the arm.
        metric: What is compared.
        differences: Seed -> difference; only seeds for which every trial that is needed is done.
        planned: Number of seeds of the study.
        estimate: Mean difference with its interval; None where no seed is complete.
        p: Two-sided p-value of the paired t-test.
        p_holm: The same, corrected for all contrasts that were asked together.
        outcome: The verdict for programs: the sign of the difference, where it is resolved.
        verdict: The verdict for people.
    """

    name: str
    metric: str
    differences: dict[int, float]
    planned: int
    estimate: Estimate | None
    p: float | None
    p_holm: float | None
    outcome: Outcome
    verdict: str

    @property
    def better(self) -> bool | None:
        """Whether a resolved difference is an improvement; None where nothing is resolved."""
        if self.outcome not in ("positive", "negative"):
            return None
        return (self.outcome == "positive") == (Metric.parse(self.metric).direction == "max")


def contrasts(
    questions: Mapping[str, dict[int, float]], metric: str, planned: int, confidence: float, wording: Wording
) -> tuple[Contrast, ...]:
    """Answers questions that are asked together.

    Args:
        questions: Name -> seed -> difference of an accuracy, as a fraction.
        metric: What was compared.
        planned: Number of seeds of the study.
        confidence: Coverage of the intervals; 1 - confidence is the level of the corrected test.
        wording: Words for a rise and a fall; swapped for metrics of which less is better.
    """
    if Metric.parse(metric).direction == "min":
        wording = Wording(wording.negative, wording.positive)
    questions = {name: _rounded(differences) for name, differences in questions.items()}
    found = {name: estimate(list(differences.values()), confidence) for name, differences in questions.items()}
    raw = [p_value(each) for each in found.values()]
    answers = []
    for (name, differences), p, corrected in zip(questions.items(), raw, holm(raw), strict=True):
        outcome, verdict = _judge(found[name], corrected, 1 - confidence, len(questions), wording)
        answers.append(Contrast(name, metric, differences, planned, found[name], p, corrected, outcome, verdict))
    return tuple(answers)


def answers_by_name(kind: str, found: Sequence[Contrast]) -> dict[str, float]:
    """Returns `effect/<factor>/<metric>` and, with `_low`, `_high` and `_p` (Holm) after the kind, its certainty."""
    measured = [(f"{each.name}/{each.metric}", each, each.estimate) for each in found if each.estimate is not None]
    return {
        f"{kind}{part}/{name}": value
        for name, each, mean in measured
        for part, value in (("", mean.mean), ("_low", mean.low), ("_high", mean.high), ("_p", each.p_holm))
        if value is not None
    }


def _rounded(differences: Mapping[int, float]) -> dict[int, float]:
    """Removes the noise of floating-point sums, which a t-test over equal arms would take for an effect."""
    return {seed: round(difference, 12) for seed, difference in differences.items()}


def _judge(
    found: Estimate | None, p_holm: float | None, alpha: float, questions: int, wording: Wording
) -> tuple[Outcome, str]:
    if found is None:
        return "unmeasured", "not measured: no seed is complete"
    if found.low is None or found.high is None or p_holm is None:
        return "unresolved", "not resolved: one seed has no interval"
    if p_holm < alpha:
        return ("positive", wording.positive) if found.mean > 0 else ("negative", wording.negative)
    if found.mean == 0 and found.sd == 0:
        return "none", "no difference at all"
    # The strictest level of Holm's steps: an effect below it is resolved for certain.
    needed = more_seeds(found, alpha / questions, PATIENCE)
    if needed is None:
        return "none", f"no effect beyond ±{100 * max(abs(found.low), abs(found.high)):.1f} points"
    return "unresolved", f"not resolved: about {plural(needed, 'more seed')}"
