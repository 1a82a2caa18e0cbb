from __future__ import annotations

import pytest

from advlora_platform.analysis.contrasts import Wording, contrasts
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
    assert (effects["clustering"].verdict, effects["adaptive"].verdict) == ("helps", "hurts")
    assert (effects["clustering"].outcome, effects["adaptive"].outcome) == ("positive", "negative")


def test_an_interaction_is_the_difference_of_effects():
    (interaction,) = by_name(tell(ablation(), additive).interactions).values()
    assert interaction.name == "clustering x adaptive"
    assert interaction.differences == pytest.approx({0: -0.01, 1: -0.01, 2: -0.01})
    assert interaction.verdict == "weaker together"


def test_a_factor_without_effect_is_said_to_have_none():
    clean = by_name(tell(ablation(), additive).effects, CLEAN)
    assert clean["clustering"].estimate.mean == 0.0
    assert (clean["clustering"].outcome, clean["clustering"].verdict) == ("none", "no difference at all")
    assert clean["clustering"].p_holm == 1.0


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


def test_only_seeds_with_every_needed_trial_count():
    def story(arm, seed):
        if (arm, seed) == ("adaptive", 1):
            return "diverged"
        if (arm, seed) == ("AdvLoRA", 3):
            return "running"
        return None if (arm, seed) == ("full", 0) else additive(arm, seed)

    summary = tell(ablation(**FIVE), story)
    effect = by_name(summary.effects)["clustering"]
    assert list(effect.differences) == [0, 2, 4]
    assert (effect.estimate.n, effect.planned) == (3, 5)
    compared = {name: list(answer.differences) for name, answer in by_name(summary.comparisons).items()}
    assert compared["adaptive"] == [0, 2, 3, 4]
    assert compared["clustering"] == [0, 1, 2, 3, 4]
    assert compared["full"] == [1, 2, 3, 4]


def test_comparisons_are_paired_with_the_arm_in_which_all_is_off():
    summary = tell(ablation(), additive)
    answers = by_name(summary.comparisons)
    assert summary.reference == "LoRA"
    assert list(answers) == ["adaptive", "clustering", "AdvLoRA", "full", "pretrained"]
    assert answers["AdvLoRA"].differences == pytest.approx({0: 0.01, 1: 0.012, 2: 0.012})
    assert answers["clustering"].verdict == "better"
    assert answers["full"].verdict == "no difference at all"


def test_without_factors_the_first_arm_is_the_reference():
    study = ablation(factors={}, arms={"small": {"adapter.rank": 2}, "large": {"adapter.rank": 16}})
    summary = tell(study, lambda arm, seed: accuracies({"small": 0.5, "large": 0.6}[arm] + 0.001 * seed))
    assert (summary.reference, summary.effects, summary.interactions) == ("small", (), ())
    assert by_name(summary.comparisons)["large"].estimate.mean == pytest.approx(0.1)


def test_one_seed_gives_effects_without_interval_or_verdict():
    effect = by_name(tell(ablation(seeds=[7]), additive).effects)["clustering"]
    assert effect.estimate.mean == pytest.approx(0.036)
    assert (effect.estimate.low, effect.p, effect.p_holm) == (None, None, None)
    assert effect.verdict == "not resolved: one seed has no interval"


def test_nothing_done_is_not_measured():
    summary = tell(ablation(), lambda arm, seed: None)
    assert {effect.outcome for effect in (*summary.effects, *summary.comparisons)} == {"unmeasured"}
    assert all(effect.estimate is None for effect in summary.effects)


def test_holm_covers_the_questions_that_are_asked_together():
    questions = {"a": {0: 0.03, 1: 0.05, 2: 0.04}, "b": {0: 0.01, 1: 0.06, 2: 0.03}, "c": {0: 0.0, 1: 0.01, 2: -0.01}}
    a, b, c = contrasts(questions, ROBUST, 3, 0.95, Wording("helps", "hurts"))
    # t = 6.928, 2.294, 0 with two degrees of freedom
    assert [a.p, b.p, c.p] == pytest.approx([0.020204, 0.148743, 1.0], abs=1e-5)
    assert [a.p_holm, b.p_holm, c.p_holm] == pytest.approx([0.060611, 0.297487, 1.0], abs=1e-5)
    assert a.verdict == "not resolved: about 1 more seed"


def test_an_effect_far_below_the_noise_gets_bounds_instead_of_a_number_of_seeds():
    questions = {"a": {0: 0.02, 1: -0.02, 2: 0.0015}}
    (answer,) = contrasts(questions, ROBUST, 3, 0.95, Wording("helps", "hurts"))
    bound = 100 * max(abs(answer.estimate.low), abs(answer.estimate.high))
    assert (answer.outcome, answer.verdict) == ("none", f"no effect beyond ±{bound:.1f} points")


def test_rounding_noise_of_equal_arms_is_no_effect():
    questions = {"a": {0: 0.1 + 0.2 - 0.3, 1: 0.1 + 0.7 - 0.8, 2: 0.3 - 0.1 - 0.2}}
    assert any(questions["a"].values())
    (answer,) = contrasts(questions, ROBUST, 3, 0.95, Wording("helps", "hurts"))
    assert answer.verdict == "no difference at all"
