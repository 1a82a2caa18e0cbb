"""A contrast: a difference of arms that is paired by seed and example, with its interval and its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from advlora.metrics import Metric
from advlora_platform.analysis.arms import ArmResult
from advlora_platform.analysis.blocks import Array, Blocks
from advlora_platform.analysis.estimates import Estimate, with_interval
from advlora_platform.analysis.simultaneous import Family, Independent
from advlora_platform.analysis.terms import Terms
from advlora_platform.analysis.variance import Variance, crossed
from advlora_platform.analysis.verdicts import LEAST_SEEDS, More, Outcome, outcome_of, what_to_add
from advlora_platform.analysis.words import plural

Group = tuple[tuple[float, ArmResult], ...]
"""Arms with their weights: + - for a pair, + - - + for a square, shares of 1 and -1 for the halves of a fraction."""


@dataclass(frozen=True)
class Wording:
    """How a verdict names the two directions."""

    better: str = "better"
    worse: str = "worse"


@dataclass(frozen=True)
class Contrast:
    """The answer to one question about one metric.

    Attributes:
        name: The factor, the pair of factors, or the arm.
        metric: What is compared.
        differences: Seed -> difference; a pair of arms that a seed lacks is filled in by least squares.
        planned: Number of seeds of the study.
        left_out: Arms without results for enough seeds; the difference is over the pairs without them.
        estimate: Mean difference with its simultaneous interval; None where nothing is measured.
        p: Two-sided p-value of this question alone.
        p_family: The same, corrected for all questions that were asked together.
        margin: Smallest difference that matters; 0 for none.
        outcome: The verdict for programs.
        verdict: The verdict for people.
        more: What to add where nothing is resolved.
    """

    name: str
    metric: str
    differences: dict[int, float]
    planned: int
    left_out: tuple[str, ...]
    estimate: Estimate | None
    p: float | None
    p_family: float | None
    margin: float
    outcome: Outcome
    verdict: str
    more: More | None = None


def contrasts(
    questions: Mapping[str, Sequence[Group]],
    metric: str,
    terms: Terms,
    wording: Wording | None = None,
    family: Family | None = None,
) -> tuple[Contrast, ...]:
    """Answers questions that are asked together.

    Args:
        questions: Name -> groups of arms; the answer is the mean over groups.
        metric: What is compared.
        terms: By what the study judges.
        wording: Words for a rise and a fall of what is good.
        family: How the questions hang together; None for a correction that holds in any case.
    """
    together = family or Independent(len(questions))
    arms = {arm.name: arm for groups in questions.values() for group in groups for _, arm in group}
    known = Known(metric, {name: arm.by_seed(metric) for name, arm in arms.items()})
    return tuple(
        _answer(name, groups, known, terms, together, wording or Wording()) for name, groups in questions.items()
    )


@dataclass(frozen=True)
class Known:
    """What is known of a metric: arm -> seed -> value."""

    metric: str
    values: Mapping[str, Mapping[int, float]]

    def seeds(self, groups: Sequence[Group]) -> list[int]:
        """Returns the seeds for which any group is complete."""
        listed = dict.fromkeys(seed for group in groups for _, arm in group for seed in self.values[arm.name])
        return [seed for seed in listed if any(self.has(group, seed) for group in groups)]

    def has(self, group: Group, seed: int) -> bool:
        """Whether every trial of a group is done with a seed."""
        return all(seed in self.values[arm.name] for _, arm in group)

    def difference(self, group: Group, seed: int) -> float:
        """Returns the signed sum of a group."""
        return sum(sign * self.values[arm.name][seed] for sign, arm in group)


def answers_by_name(kind: str, found: Sequence[Contrast]) -> dict[str, float]:
    """Returns `effect/<factor>/<metric>` and, with `_low`, `_high` and `_p` after the kind, its certainty."""
    measured = [(f"{each.name}/{each.metric}", each, each.estimate) for each in found if each.estimate is not None]
    return {
        f"{kind}{part}/{name}": value
        for name, each, mean in measured
        for part, value in (("", mean.mean), ("_low", mean.low), ("_high", mean.high), ("_p", each.p_family))
        if value is not None
    }


def verdicts_by_name(kind: str, found: Sequence[Contrast]) -> dict[str, str]:
    """Returns `effect/<factor>/<metric>` -> the verdict for programs."""
    return {f"{kind}/{each.name}/{each.metric}": each.outcome for each in found}


def _answer(
    name: str, groups: Sequence[Group], known: Known, terms: Terms, family: Family, wording: Wording
) -> Contrast:
    used = _enough(groups, known)
    seeds, left_out = known.seeds(used), _left_out(groups, used, known)
    nothing = "not measured: no seed is complete"
    answer = Contrast(name, known.metric, {}, terms.seeds, left_out, None, None, None, 0.0, "unmeasured", nothing)
    if not seeds:
        return answer
    without = f" (without {', '.join(left_out)})" if left_out else ""
    blocks = _blocks(used, seeds, known, terms)
    outcomes = blocks.by_seed()  # (S, N)
    answer = replace(answer, differences=dict(zip(seeds, outcomes.mean(1).tolist(), strict=True)))
    if blocks.complete < LEAST_SEEDS:
        found = Estimate(float(outcomes.mean()), _sd(outcomes), len(seeds), None, None)
        too_few = f"not resolved: no verdict below {LEAST_SEEDS} complete seeds{without}"
        return replace(answer, estimate=found, outcome="unresolved", verdict=too_few)
    variance = _variance(blocks, outcomes, used, known.metric, terms)
    alpha = family.level(terms.alpha)
    found = with_interval(outcomes, variance, alpha)
    p = variance.p_value(found.mean)
    judged = _judged(replace(answer, estimate=found, p=p, p_family=family.corrected(p)), terms, alpha, wording)
    return replace(judged, verdict=judged.verdict + without)


def _judged(answer: Contrast, terms: Terms, alpha: float, wording: Wording) -> Contrast:
    found, metric = answer.estimate, Metric.parse(answer.metric)
    assert found is not None, "a measured difference is judged"
    margin = terms.margin if metric.on_data else 0.0
    outcome = outcome_of(found, margin, 1 if metric.direction == "max" else -1)
    more = what_to_add(found, margin, alpha) if outcome == "unresolved" else None
    verdict = {
        "better": wording.better,
        "worse": wording.worse,
        "equivalent": f"equivalent within {plural(100 * margin, 'point')}",
        "unresolved": "not resolved" + (f": {more.words}" if more is not None else ""),
    }[outcome]
    return replace(answer, margin=margin, outcome=outcome, verdict=verdict, more=more)


def _enough(groups: Sequence[Group], known: Known) -> list[Group]:
    """Leaves groups out that have too few seeds for a verdict where others have enough, and those without any."""
    counts = [len(known.seeds([group])) for group in groups]
    least = LEAST_SEEDS if max(counts, default=0) >= LEAST_SEEDS else 1
    return [group for group, count in zip(groups, counts, strict=True) if count >= least]


def _left_out(groups: Sequence[Group], used: Sequence[Group], known: Known) -> tuple[str, ...]:
    """Names the arms to which it is due that groups are left out: those with the fewest seeds."""
    names = []
    for group in groups:
        fewest = min(len(known.values[arm.name]) for _, arm in group)
        if group not in used:
            names += [arm.name for _, arm in group if len(known.values[arm.name]) == fewest]
    return tuple(dict.fromkeys(names))


def _blocks(groups: Sequence[Group], seeds: Sequence[int], known: Known, terms: Terms) -> Blocks:
    """Returns what was measured, by example where the outcomes of all trials are known."""
    measured = np.array([[known.has(group, seed) for seed in seeds] for group in groups])  # (G, S)
    cells = [(g, s, group, seed) for g, group in enumerate(groups) for s, seed in enumerate(seeds) if measured[g, s]]
    scores = [
        _signed([(sign, terms.scores(arm, seed, known.metric)) for sign, arm in group]) for _, _, group, seed in cells
    ]
    rows = [row for row in scores if row is not None]
    if len(rows) < len(cells) or len({len(row) for row in rows}) > 1:
        rows = [np.array([known.difference(group, seed)]) for _, _, group, seed in cells]
    values = np.zeros((*measured.shape, len(rows[0])))
    for (g, s, _, _), row in zip(cells, rows, strict=True):
        values[g, s] = row
    return Blocks(values.round(12), measured)  # without the noise of sums, which would look like an effect


def _signed(terms: Sequence[tuple[float, Array | None]]) -> Array | None:
    """Adds the scores of a group up; None where one is not known."""
    rows = [sign * row for sign, row in terms if row is not None]
    whole = len(rows) == len(terms) and len({len(row) for row in rows}) == 1
    return np.sum(rows, axis=0) if whole else None


def _variance(blocks: Blocks, outcomes: Array, groups: Sequence[Group], metric: str, terms: Terms) -> Variance:
    weight = _weight(groups)
    own = replace(crossed(outcomes, terms.grain(metric) * weight**0.5), df=blocks.complete - 1)
    shared = terms.scatter(metric)
    if shared is None:
        return own
    variance, df = shared
    rest = own.of_rest / max(own.examples, 1)
    return replace(own, of_seeds=weight * variance - rest, df=df)


def _weight(groups: Sequence[Group]) -> float:
    """Returns the sum of the squared weights of all arms, in units of which arms that scatter alike make a contrast."""
    weights: dict[str, float] = {}
    for group in groups:
        for sign, arm in group:
            weights[arm.name] = weights.get(arm.name, 0.0) + sign / len(groups)
    return sum(weight**2 for weight in weights.values())


def _sd(outcomes: Array) -> float | None:
    return float(outcomes.mean(1).std(ddof=1)) if len(outcomes) > 1 else None
