"""How often verdicts err, and what they find: `python -m benchmarks.verdicts`.

Studies with known truth are drawn, and judged by the very code that judges real ones. A third of the arms equal the
reference, a third are better by the margin of 1 point, a third by 3 points; of three factors or pairs of factors, one
each. A study errs if any of its verdicts is wrong: a difference where there is none or the other way round, or
`equivalent` where there is one as large as the margin.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from scipy.stats import norm

from advlora.config.protocol import SamplesConfig
from advlora_platform.analysis.arms import ArmResult
from advlora_platform.analysis.contrasts import Contrast
from advlora_platform.analysis.effects import comparisons, interactions, main_effects
from advlora_platform.analysis.terms import Terms
from advlora_platform.analysis.trials import TrialResult
from advlora_platform.analysis.verdicts import LEAST_SEEDS
from advlora_platform.study.outcomes import Scores, Shelf

METRIC = "test/clean_r1"
POINT = 0.01
EFFECTS = (0.0, 1 * POINT, 3 * POINT)
SHARED, OWN = 1.0 * POINT, 0.5 * POINT
"""Standard deviations over seeds: what all arms share, and what is an arm's own."""
AGAIN = 100
"""At most so many studies of a row are run again with as many seeds as were said to be needed."""
Values = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Drawn:
    """A study whose truth is known.

    Attributes:
        values: `(A, S)`, accuracies; NaN where a trial has no result.
        truth: `(A,)`, expected accuracy of each arm.
        outcomes: `(A, S, N)`, right or wrong; None where only accuracies are drawn.
    """

    values: Values
    truth: Values
    outcomes: np.ndarray[Any, np.dtype[np.bool_]] | None = None


def in_thirds(arms: int) -> Values:
    """Returns the expected accuracy of every arm; a third of them equals the first."""
    return 0.5 + np.array([0.0, *(EFFECTS[arm % len(EFFECTS)] for arm in range(arms - 1))])


def additive(arms: int) -> Values:
    """Returns the expected accuracies of a factorial in which each factor has another effect."""
    return 0.5 + levels(arms) @ np.array(EFFECTS)


def interacting(arms: int) -> Values:
    """Returns the expected accuracies of a factorial in which each pair of factors has another interaction."""
    a, b, c = levels(arms).T
    return 0.5 + np.stack([a * b, a * c, b * c], 1) @ np.array(EFFECTS)


def levels(arms: int) -> Values:
    """Returns which factors are on in each arm, `(A, 3)`."""
    return np.array([[number >> place & 1 for place in range(3)] for number in range(arms)], dtype=np.float64)


Draw = Callable[[np.random.Generator, Values, int], Drawn]


@dataclass(frozen=True)
class Scenario:
    """A kind of study.

    Attributes:
        name: For the table.
        draw: `(chance, truth, seeds) -> Drawn`.
        ask: What is asked about the arms.
        common: Whether the study declares that all arms scatter alike.
        arms: Numbers of arms that are simulated.
        truth: Number of arms -> expected accuracy of each.
    """

    name: str
    draw: Draw
    ask: Callable[[tuple[ArmResult, ...], Terms], Iterator[Contrast]]
    common: bool = False
    arms: tuple[int, ...] = (5, 20, 50)
    truth: Callable[[int], Values] = in_thirds


@dataclass
class Score:
    """What became of the studies of a scenario.

    Attributes:
        wrong: Per study, whether any verdict was wrong.
        covered: Per study, whether all intervals held the truth.
        found: Per difference of 3 points, whether it was found.
        equal: Per difference of 0, whether it was called equivalent.
        more: Per difference of 3 points that was not resolved, how many more seeds were said to be needed.
        reached: Whether a new study with as many more seeds found it.
    """

    wrong: list[bool] = field(default_factory=list)
    covered: list[bool] = field(default_factory=list)
    found: list[bool] = field(default_factory=list)
    equal: list[bool] = field(default_factory=list)
    more: list[int] = field(default_factory=list)
    reached: list[bool] = field(default_factory=list)


class Kept(Shelf):
    """Outcomes that were drawn rather than read."""

    def __init__(self, outcomes: np.ndarray[Any, np.dtype[np.bool_]] | None) -> None:
        super().__init__()
        self._outcomes = outcomes

    def scores(self, trial_id: str, metric: str) -> Scores | None:
        """Returns the outcomes of a trial, named by arm and seed, `(N,)`."""
        if self._outcomes is None:
            return None
        arm, seed = map(int, trial_id.split())
        return self._outcomes[arm, seed].astype(np.float64)


def plain(chance: np.random.Generator, truth: Values, seeds: int) -> Drawn:
    """Accuracies of arms that scatter alike."""
    shared = SHARED * chance.standard_normal(seeds)
    return Drawn(truth[:, None] + shared + OWN * chance.standard_normal((len(truth), seeds)), truth)


def rounded(chance: np.random.Generator, truth: Values, seeds: int) -> Drawn:
    """Accuracies over 500 images."""
    drawn = plain(chance, truth, seeds)
    return replace(drawn, values=(drawn.values * 500).round() / 500)


def dead(chance: np.random.Generator, truth: Values, seeds: int) -> Drawn:
    """A fifth of the arms has no result, and a tenth of the other trials; not the reference."""
    drawn, arms = plain(chance, truth, seeds), len(truth)
    values = drawn.values.copy()
    values[chance.random((arms, seeds)) < 0.1] = np.nan
    values[arms - arms // 5 :] = np.nan
    values[0] = drawn.values[0]
    return replace(drawn, values=values)


def families(chance: np.random.Generator, truth: Values, seeds: int) -> Drawn:
    """Two families of arms; within one, what is an arm's own correlates by 0.8."""
    arms = len(truth)
    family = np.repeat(chance.standard_normal((2, seeds)), [arms // 2, arms - arms // 2], axis=0)
    own = 0.8**0.5 * family + 0.2**0.5 * chance.standard_normal((arms, seeds))
    return Drawn(truth[:, None] + SHARED * chance.standard_normal(seeds) + OWN * own, truth)


def unequal(chance: np.random.Generator, truth: Values, seeds: int) -> Drawn:
    """Arms scatter by very different amounts, one of them five times as much, and one not at all."""
    arms = len(truth)
    scatter = OWN * np.exp(0.5 * chance.standard_normal(arms))
    scatter[1:3] = (0, 5 * OWN)
    shared = SHARED * chance.standard_normal(seeds)
    return Drawn(truth[:, None] + shared + scatter[:, None] * chance.standard_normal((arms, seeds)), truth)


def crossed(examples: int) -> Draw:
    """Right or wrong by example: images differ in difficulty, for all arms and for each, and so do seeds and trials."""

    def draw(chance: np.random.Generator, truth: Values, seeds: int) -> Drawn:
        arms, spread = len(truth), (1.0, 0.3, 0.03, 0.02, 0.5)
        total = sum(each**2 for each in spread) ** 0.5
        image, taste, seed, trial, rest = spread
        latent = rest * chance.standard_normal((arms, seeds, examples))
        latent += image * chance.standard_normal(examples) + taste * chance.standard_normal((arms, 1, examples))
        latent += seed * chance.standard_normal((1, seeds, 1)) + trial * chance.standard_normal((arms, seeds, 1))
        right = latent < total * norm.ppf(truth)[:, None, None]  # (A, S, N)
        return Drawn(right.mean(2), truth, right)

    return draw


FACTORS = {"a": ("a",), "b": ("b",), "c": ("c",)}


def against_reference(arms: tuple[ArmResult, ...], terms: Terms) -> Iterator[Contrast]:
    """Compares every arm with the first."""
    yield from comparisons(arms, arms[0], METRIC, terms)


def of_factors(arms: tuple[ArmResult, ...], terms: Terms) -> Iterator[Contrast]:
    """Asks for the effects of three factors."""
    yield from main_effects(arms, FACTORS, METRIC, terms)


def of_pairs(arms: tuple[ArmResult, ...], terms: Terms) -> Iterator[Contrast]:
    """Asks how three factors change each other's effect."""
    yield from interactions(arms, FACTORS, METRIC, terms)


SCENARIOS = (
    Scenario("accuracies", plain, against_reference),
    Scenario("rounded to 1/500", rounded, against_reference),
    Scenario("dead arms and holes", dead, against_reference),
    Scenario("correlated arms", families, against_reference),
    Scenario("unequal scatter", unequal, against_reference),
    Scenario("1000 images", crossed(1000), against_reference, arms=(5, 20)),
    Scenario("5000 images", crossed(5000), against_reference, arms=(5,)),
    Scenario("effects, 2^3", plain, of_factors, arms=(8,), truth=additive),
    Scenario("effects, 2^3 with holes", dead, of_factors, arms=(8,), truth=additive),
    Scenario("interactions, 2^3", plain, of_pairs, arms=(8,), truth=interacting),
    Scenario("common scatter", plain, against_reference, common=True),
    Scenario("1000 images, common", crossed(1000), against_reference, common=True, arms=(5, 20)),
    Scenario("common, not true", unequal, against_reference, common=True),
)


def simulate(scenario: Scenario, arms: int, seeds: int, studies: int, seed: int = 0) -> Score:
    """Draws and judges studies."""
    chance, score, truth = np.random.default_rng([seed, arms, seeds]), Score(), scenario.truth(arms)
    for _ in range(studies):
        asked = judge(scenario, scenario.draw(chance, truth, seeds), score)
        for name, more in asked[:1] if len(score.reached) < AGAIN else ():
            score.more.append(more)
            again = answers(scenario, scenario.draw(chance, truth, seeds + more))
            score.reached += [answer.outcome == "better" for answer, _ in again if answer.name == name]
    return score


def judge(scenario: Scenario, drawn: Drawn, score: Score) -> list[tuple[str, int]]:
    """Judges a study and compares with the truth.

    Returns:
        Which differences of 3 points are not resolved, and how many more seeds are said to be needed.
    """
    right, asked = [], []
    for answer, truth in answers(scenario, drawn):
        if answer.estimate is None or answer.estimate.low is None or answer.estimate.high is None:
            continue
        right.append((answer.outcome not in lies(truth), answer.estimate.low <= truth <= answer.estimate.high))
        if abs(truth) < 1e-9:
            score.equal.append(answer.outcome == "equivalent")
        elif abs(truth) > 2 * POINT:
            score.found.append(answer.outcome in ("better", "worse"))
            if answer.more is not None and answer.more.seeds is not None:
                asked.append((answer.name, answer.more.seeds))
    score.wrong.append(not all(verdict for verdict, _ in right))
    score.covered.append(all(interval for _, interval in right))
    return asked


def lies(truth: float) -> tuple[str, ...]:
    """Returns the verdicts that would be wrong."""
    if abs(truth) < 1e-9:
        return ("better", "worse")
    return ("worse" if truth > 0 else "better", *(("equivalent",) if abs(truth) > POINT - 1e-9 else ()))


def answers(scenario: Scenario, drawn: Drawn) -> list[tuple[Contrast, float]]:
    """Returns what the platform says, each with the truth."""
    count, seeds = drawn.values.shape
    arms = tuple(arm_of(number, drawn.values[number], count) for number in range(count))
    terms = Terms(
        seeds=seeds,
        margin=1 * POINT,
        samples=SamplesConfig(test=500 if drawn.outcomes is None else drawn.outcomes.shape[2]),
        outcomes=Kept(drawn.outcomes),
        alike=arms if scenario.common else (),
    )
    said = list(scenario.ask(arms, terms))
    return [(answer, truth_of(answer, scenario, drawn.truth)) for answer in said if answer.estimate is not None]


def truth_of(answer: Contrast, scenario: Scenario, truth: Values) -> float:
    """Returns the true difference, over the arms that the answer is about."""
    return _truths(scenario.name, len(truth), answer.left_out)[answer.name]


@cache
def _truths(name: str, count: int, left_out: tuple[str, ...]) -> dict[str, float]:
    scenario = next(each for each in SCENARIOS if each.name == name)
    exact = [arm_of(number, np.full(LEAST_SEEDS, value), count) for number, value in enumerate(scenario.truth(count))]
    arms = tuple(replace(arm, trials=()) if arm.name in left_out else arm for arm in exact)
    found = scenario.ask(arms, Terms(seeds=LEAST_SEEDS))
    return {answer.name: answer.estimate.mean for answer in found if answer.estimate is not None}


def arm_of(number: int, values: Values, count: int) -> ArmResult:
    """Returns an arm as the platform knows it; of eight arms, each has its levels of three factors."""
    trials = tuple(
        TrialResult(seed + 1, seed, f"{number} {seed}", {}, "done", {METRIC: float(value)}, (), None, "", None)
        for seed, value in enumerate(values)
        if not np.isnan(value)
    )
    factors = {name: bool(number >> place & 1) for place, name in enumerate("abc")} if count == 8 else None
    return ArmResult(str(number), "lora", factors, {}, None, {}, trials, {})


def row(scenario: Scenario, arms: int, seeds: int, score: Score) -> str:
    """Writes a row of the table; rates in percent."""
    rates = [_rate(each) for each in (score.wrong, score.covered, score.found, score.equal)]
    more = f"{np.mean(score.more):.1f}" if score.more else "–"
    cells = (scenario.name, str(arms), str(seeds), str(len(score.wrong)), *rates, more, _rate(score.reached))
    return f"| {' | '.join(cells)} |"


def _rate(hits: list[bool]) -> str:
    return f"{100 * np.mean(hits):.1f}" if hits else "–"


HEADER = (
    "| study | arms | seeds | studies | wrong | covered | 3 points found | 0 equivalent | more seeds | found then |",
    "|---|---|---|---|---|---|---|---|---|---|",
)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="of the fewest arms; of more arms fewer")
    parser.add_argument("--only", default="", help="part of a scenario's name")
    options = parser.parse_args()
    print(*HEADER, sep="\n")
    begin = time.perf_counter()
    for scenario in SCENARIOS:
        for arms in scenario.arms if options.only in scenario.name else ():
            for seeds in (3, 5, 10):
                studies = max(options.studies * scenario.arms[0] // arms, 1)
                print(row(scenario, arms, seeds, simulate(scenario, arms, seeds, studies)), flush=True)
    print(f"\n{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
