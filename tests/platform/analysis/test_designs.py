"""Effects of factors with many levels, of fractions, and of designs with holes, against numbers made by a formula."""

from __future__ import annotations

import pytest

from advlora_platform.report import ablation_report
from advlora_platform.study.ablation import arms
from tests.platform.stories import ROBUST, ablation, accuracies, tell
from tests.platform.study.test_designs import ALIGNMENT, STARTS, SWITCHES

pytestmark = pytest.mark.unit
WORTH = {"start": 0.04, "alignment": -0.02, "adaptive": 0.0, "rank": 0.01, "rate": 0.03}
LEVELS = (0.0, 0.03, 0.05)


def by_name(answers):
    return {answer.name: answer for answer in answers if answer.metric == ROBUST}


def told(study, value):
    """The summary of a study in which `value` of an arm's levels is added to every seed's own accuracy."""
    levels = {arm.name: arm.factors for arm in arms(study)}
    return tell(study, lambda arm, seed: accuracies(0.4 + 0.01 * seed + value(levels[arm])))


def test_every_level_is_compared_with_the_baseline():
    study = ablation(factors={"init": STARTS, "alignment": ALIGNMENT}, arms={})
    found = told(study, lambda levels: LEVELS[levels["init"]] + 0.02 * levels["alignment"] * levels["init"])
    effects = by_name(found.effects)
    assert {name: round(each.estimate.mean, 6) for name, each in effects.items()} == {
        "init: kmeans": 0.04,  # 3 points without alignment, 5 with
        "init: pissa": 0.07,
        "alignment": 0.02,
    }
    pairs = by_name(found.interactions)
    assert {name: round(each.estimate.mean, 6) for name, each in pairs.items()} == {
        "init: kmeans x alignment": 0.02,
        "init: pissa x alignment": 0.04,
    }


def test_excluded_combinations_leave_the_pairs_that_there_are():
    study = ablation(
        factors={"init": STARTS, "alignment": ALIGNMENT}, exclude=[{"init": "pissa", "alignment": True}], arms={}
    )
    found = told(study, lambda levels: LEVELS[levels["init"]] + 0.02 * levels["alignment"])
    assert by_name(found.effects)["init: pissa"].estimate.mean == pytest.approx(0.05)
    assert by_name(found.effects)["alignment"].estimate.mean == pytest.approx(0.02)
    assert by_name(found.interactions)["init: pissa x alignment"].outcome == "unmeasured"


def test_a_fraction_finds_every_effect_where_factors_only_add():
    study = ablation(factors=SWITCHES, design="fractional", resolution=3, arms={})
    found = told(study, lambda levels: sum(WORTH[name] * on for name, on in levels.items()))
    assert len(found.arms) == 8
    effects = by_name(found.effects)
    assert {name: effects[name].estimate.mean for name in WORTH} == pytest.approx(WORTH)
    assert (effects["start"].outcome, effects["adaptive"].outcome) == ("better", "equivalent")
    assert found.interactions == ()


def test_a_fraction_measures_an_effect_with_its_alias_and_the_report_says_so():
    factors = {name: SWITCHES[name] for name in ("start", "alignment", "adaptive")}
    study = ablation(factors=factors, design="fractional", resolution=3, arms={})
    found = told(study, lambda levels: 0.04 * levels["alignment"] * levels["adaptive"])
    assert by_name(found.effects)["start"].estimate.mean == pytest.approx(-0.02)  # half of the pair's, and its sign
    text = next(part.text for part in ablation_report(found).document.parts if part.title == "Effects of the factors")
    assert "start = alignment x adaptive" in " ".join(text)


def test_a_dead_arm_of_a_fraction_leaves_its_effects_unmeasured_and_not_biased():
    study = ablation(factors=SWITCHES, design="fractional", resolution=3, arms={})
    dead = arms(study)[3].name
    found = tell(study, lambda arm, seed: "diverged" if arm == dead else accuracies(0.5))
    assert {each.outcome for each in by_name(found.effects).values()} == {"unmeasured"}
