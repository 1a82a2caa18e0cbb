from __future__ import annotations

import numpy as np
import pytest

from tests.platform.stories import CLEAN, ROBUST, ablation, accuracies, tell

pytestmark = pytest.mark.unit

LEVELS = {"LoRA": (0, 0), "clustering": (1, 0), "adaptive": (0, 1), "AdvLoRA": (1, 1), "full": (0, 0)}
FIVE = {"seeds": [0, 1, 2, 3, 4]}


def additive(arm, seed):
    """Clustering adds 4 points, adaptive takes 2, both together lose another 1; every seed has its own level."""
    clustering, adaptive = LEVELS.get(arm, (0, 0))
    wobble = 0.001 * (seed % 2) * clustering + 0.001 * (seed % 3) * adaptive
    robust = 0.5 + 0.01 * seed + 0.04 * clustering - 0.02 * adaptive - 0.01 * clustering * adaptive + wobble
    return accuracies(robust, 0.8 + 0.01 * seed)


def by_name(answers, metric=ROBUST):
    return {answer.name: answer for answer in answers if answer.metric == metric}


def test_a_main_effect_is_the_mean_over_the_pairs_that_differ_in_one_factor():
    effects = by_name(tell(ablation(), additive).effects)
    # clustering: mean of +4 and +4-1 points, and 0.1 points in seed 1
    assert effects["clustering"].differences == pytest.approx({0: 0.035, 1: 0.036, 2: 0.035})
    assert effects["clustering"].estimate.mean == pytest.approx(0.1060 / 3)
    assert effects["adaptive"].differences == pytest.approx({0: -0.025, 1: -0.024, 2: -0.023})
    assert (effects["clustering"].verdict, effects["adaptive"].verdict) == ("better", "worse")
    assert (effects["clustering"].outcome, effects["adaptive"].outcome) == ("better", "worse")


def test_an_interaction_is_the_difference_of_effects():
    (interaction,) = by_name(tell(ablation(margin=1.5), additive).interactions).values()
    assert interaction.name == "clustering x adaptive"
    assert interaction.differences == pytest.approx({0: -0.01, 1: -0.01, 2: -0.01})
    assert (interaction.outcome, interaction.verdict) == ("equivalent", "equivalent within 1.5 points")
    (strict,) = by_name(tell(ablation(margin=0.5), additive).interactions).values()
    assert (strict.outcome, strict.verdict) == ("worse", "worse together")


def test_a_factor_without_effect_is_equivalent_within_the_margin():
    clean = by_name(tell(ablation(), additive).effects, CLEAN)
    assert clean["clustering"].estimate.mean == 0.0
    assert (clean["clustering"].outcome, clean["clustering"].verdict) == ("equivalent", "equivalent within 1 point")
    assert clean["clustering"].p_family == 1.0


@pytest.mark.parametrize(
    ("design", "expected"),
    [("leave_one_out", {"clustering": 0.03, "adaptive": -0.03}), ("one_in", {"clustering": 0.04, "adaptive": -0.02})],
)
def test_one_at_a_time_designs_have_one_pair_per_factor(design, expected):
    names = {
        "leave_one_out": {"adaptive": (0, 1), "clustering": (1, 0), "AdvLoRA": (1, 1)},
        "one_in": LEVELS,
    }[design]

    def story(arm, seed):
        clustering, adaptive = names.get(arm, (0, 0))
        return accuracies(0.5 + 0.01 * seed + 0.04 * clustering - 0.02 * adaptive - 0.01 * clustering * adaptive)

    summary = tell(ablation(design=design), story)
    means = {name: effect.estimate.mean for name, effect in by_name(summary.effects).items()}
    assert means == pytest.approx(expected)
    assert summary.interactions == ()
    assert summary.reference == ("AdvLoRA" if design == "leave_one_out" else "LoRA")


def test_a_pair_that_a_seed_lacks_is_filled_in_and_costs_its_degree_of_freedom():
    def story(arm, seed):
        if (arm, seed) == ("adaptive", 1):
            return "diverged"
        return None if (arm, seed) == ("full", 0) else additive(arm, seed)

    summary = tell(ablation(**FIVE), story)
    effect = by_name(summary.effects)["clustering"]
    assert list(effect.differences) == [0, 1, 2, 3, 4]
    assert effect.differences == pytest.approx({0: 0.035, 1: 0.036, 2: 0.035, 3: 0.036, 4: 0.035})
    assert (effect.estimate.n, effect.planned, effect.estimate.variance.df) == (5, 5, 3)
    compared = {name: list(answer.differences) for name, answer in by_name(summary.comparisons).items()}
    assert compared["adaptive"] == [0, 2, 3, 4]
    assert compared["clustering"] == [0, 1, 2, 3, 4]
    assert compared["full"] == [1, 2, 3, 4]


def test_a_dead_arm_silences_no_factor():
    """What is left of a factorial answers, and says without which arm."""
    summary = tell(ablation(), lambda arm, seed: "diverged" if arm == "AdvLoRA" else additive(arm, seed))
    effects = by_name(summary.effects)
    assert {name: effect.outcome for name, effect in effects.items()} == {"clustering": "better", "adaptive": "worse"}
    assert effects["clustering"].estimate.mean == pytest.approx((0.04 + 0.041 + 0.04) / 3)
    assert effects["clustering"].left_out == ("AdvLoRA",)
    assert effects["clustering"].verdict == "better (without AdvLoRA)"
    (interaction,) = by_name(summary.interactions).values()
    assert (interaction.outcome, interaction.left_out) == ("unmeasured", ("AdvLoRA",))
    assert {answer.outcome for answer in by_name(summary.comparisons).values()} - {"unmeasured"}


def test_comparisons_are_paired_with_the_arm_in_which_all_is_off():
    summary = tell(ablation(), additive)
    answers = by_name(summary.comparisons)
    assert summary.reference == "LoRA"
    assert list(answers) == ["adaptive", "clustering", "AdvLoRA", "full", "pretrained"]
    assert answers["AdvLoRA"].differences == pytest.approx({0: 0.01, 1: 0.012, 2: 0.012})
    assert answers["clustering"].verdict == "better"
    assert answers["full"].verdict == "equivalent within 1 point"


def test_without_factors_the_first_arm_is_the_reference():
    study = ablation(factors={}, arms={"small": {"adapter.rank": 2}, "large": {"adapter.rank": 16}})
    summary = tell(study, lambda arm, seed: accuracies({"small": 0.5, "large": 0.6}[arm] + 0.001 * seed))
    assert (summary.reference, summary.effects, summary.interactions) == ("small", (), ())
    assert by_name(summary.comparisons)["large"].estimate.mean == pytest.approx(0.1)


@pytest.mark.parametrize("seeds", [[7], [3, 7]])
def test_below_three_seeds_there_is_neither_verdict_nor_interval(seeds):
    """Two seeds agree by chance too often: with equal differences, a t-test calls anything certain."""
    summary = tell(ablation(seeds=seeds), lambda arm, seed: accuracies(0.5 + 0.04 * (arm == "clustering")))
    for answer in (*summary.effects, *summary.comparisons):
        assert answer.outcome == "unresolved"
        assert answer.verdict == "not resolved: no verdict below 3 complete seeds"
        assert (answer.estimate.low, answer.p, answer.p_family) == (None, None, None)
    assert by_name(summary.comparisons)["clustering"].estimate.mean == pytest.approx(0.04)


def test_nothing_done_is_not_measured():
    summary = tell(ablation(), lambda arm, seed: None)
    assert {effect.outcome for effect in (*summary.effects, *summary.comparisons)} == {"unmeasured"}
    assert all(effect.estimate is None for effect in summary.effects)


@pytest.mark.parametrize("scatter", ["own", "common"])
def test_no_verdict_contradicts_its_interval(scatter):
    chance = np.random.default_rng(0)
    seen = set()
    for _ in range(60):
        values = {(arm, seed): 0.5 + 0.01 * chance.standard_normal() for arm in LEVELS for seed in range(5)}
        shift = {"clustering": 0.05, "full": -0.03}

        def story(arm, seed, values=values, shift=shift):
            return accuracies(values.get((arm, seed), 0.5) + shift.get(arm, 0.0))

        summary = tell(ablation(**FIVE, margin=2, scatter=scatter), story)
        for answer in by_name(summary.comparisons).values():
            low, high = answer.estimate.low, answer.estimate.high
            expected = "better" if low > 0 else "worse" if high < 0 else "unresolved"
            assert answer.outcome == ("equivalent" if low > -0.02 and high < 0.02 else expected)
            assert (answer.p_family < 0.05) == (low > 0 or high < 0)
            assert (answer.more is None) == (answer.outcome != "unresolved")
            seen.add(answer.outcome)
    assert seen >= {"better", "worse", "unresolved"}


def test_arms_that_scatter_alike_share_what_is_known_of_it():
    """One difference alone has 4 degrees of freedom over five seeds; six arms have 20 together."""
    chance = np.random.default_rng(1)
    values = {(arm, seed): 0.5 + 0.01 * chance.standard_normal() for arm in LEVELS for seed in range(5)}

    def story(arm, seed):
        return accuracies(values.get((arm, seed), 0.5 + 0.01 * seed * (-1) ** seed))

    own, common = (tell(ablation(**FIVE, scatter=scatter), story) for scatter in ("own", "common"))
    first, second = (by_name(summary.comparisons) for summary in (own, common))
    assert {answer.estimate.variance.df for answer in first.values()} == {4}
    assert {answer.estimate.variance.df for answer in second.values()} == {20}
    assert len({round(answer.estimate.half_width, 9) for answer in first.values()}) == 5
    assert len({round(answer.estimate.half_width, 9) for answer in second.values()}) == 1
    assert [a.estimate.mean for a in first.values()] == [a.estimate.mean for a in second.values()]


def test_rounding_noise_of_equal_arms_is_no_effect():
    noise = [0.1 + 0.2 - 0.3, 0.1 + 0.7 - 0.8, 0.3 - 0.1 - 0.2]
    assert any(noise)
    summary = tell(ablation(), lambda arm, seed: accuracies(0.5 + noise[seed] * (arm == "full")))
    assert by_name(summary.comparisons)["full"].estimate.mean == 0.0
    assert by_name(summary.comparisons)["full"].outcome == "equivalent"
