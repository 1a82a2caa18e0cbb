from __future__ import annotations

import math

import numpy as np
import pytest

from advlora.config import parse
from advlora.errors import ConfigError
from advlora_platform.kinds import Ablation
from advlora_platform.study.ablation import AblationStudy, arms
from advlora_platform.study.designs import aliases, rows
from tests.builders import ablation

pytestmark = pytest.mark.unit
STARTS = {
    "levels": {
        "gaussian": {"adapter.init": "gaussian"},
        "kmeans": {"adapter.init": "kmeans"},
        "pissa": {"adapter.init": "pissa", "optimiser.learning_rate": 1e-3},
    }
}
ALIGNMENT = {"key": "adapter.alignment.enabled"}
SWITCHES = {
    "start": {"key": "adapter.init", "on": "kmeans", "off": "gaussian"},
    "alignment": ALIGNMENT,
    "adaptive": {"key": "adapter.adaptive.enabled"},
    "rank": {"key": "adapter.rank", "on": 16, "off": 4},
    "rate": {"key": "optimiser.learning_rate", "on": 1e-2, "off": 1e-3},
}


def names(**changes):
    return [arm.name for arm in arms(ablation(arms={}, **changes))]


def test_a_factor_may_have_any_number_of_levels_each_a_set_of_overrides():
    planned = arms(ablation(factors={"init": STARTS, "alignment": ALIGNMENT}, arms={}, all_off="LoRA"))
    assert [arm.name for arm in planned] == [
        "LoRA",
        "alignment",
        "init kmeans",
        "init kmeans + alignment",
        "init pissa",
        "init pissa + alignment",
    ]
    assert planned[-1].factors == {"init": 2, "alignment": True}
    assert planned[-1].values["optimiser.learning_rate"] == 1e-3
    assert planned[-1].values["adapter.init.kind"] == "pissa"


def test_one_factor_at_a_time_goes_through_every_level():
    factors = {"init": STARTS, "alignment": ALIGNMENT}
    assert names(factors=factors, design="one_in") == ["all off", "init kmeans", "init pissa", "alignment"]
    left_out = names(factors=factors, design="leave_one_out")
    assert left_out == ["init pissa + alignment", "alignment", "init pissa"]


def test_combinations_can_be_excluded():
    factors = {"init": STARTS, "alignment": ALIGNMENT}
    excluded = [{"init": "pissa", "alignment": True}, {"init": "kmeans", "alignment": "off"}]
    assert names(factors=factors, exclude=excluded) == ["all off", "alignment", "init kmeans + alignment", "init pissa"]
    study = ablation(factors=factors, exclude=excluded, arms={})
    assert Ablation(study).notes() == ["4 of 6 combinations; 'exclude' leaves out the others."]
    assert Ablation(study).problems() == []


@pytest.mark.parametrize(("factors", "resolution", "runs"), [(3, 3, 4), (4, 4, 8), (5, 3, 8), (5, 5, 16), (7, 3, 8)])
def test_a_fraction_is_the_known_one_and_holds_the_arm_with_all_off(factors, resolution, runs):
    fraction = rows("fractional", [2] * factors, resolution)
    assert len(set(fraction)) == runs
    assert (0,) * factors in fraction
    signs = 2 * np.array(fraction) - 1
    assert np.array_equal(signs.T @ signs, runs * np.eye(factors))  # balanced, and no factor is another one


def test_aliases_are_those_of_the_textbook():
    # A half of 2^3 with C = AB: every factor is measured with the pair of the others (Montgomery, section 8.2).
    assert aliases(["a", "b", "c"], 3) == ["a = b x c", "b = a x c", "c = a x b"]
    # The half of 2^4 with D = ABC: no factor with a pair, every pair with one other.
    assert aliases(["a", "b", "c", "d"], 4) == ["a x b = c x d", "a x c = b x d", "a x d = b x c"]
    assert aliases(["a", "b", "c", "d", "e"], 5) == []


def test_a_fraction_of_a_study_says_what_it_cannot_tell_apart():
    study = ablation(factors=SWITCHES, design="fractional", resolution=5, arms={})
    planned = arms(study)
    assert len(planned) == 16
    assert planned[0].name == "all off"
    (note,) = Ablation(study).notes()
    assert note.startswith("16 of 32 combinations, resolution 5 or more; measured as one: no effects")
    third = {name: SWITCHES[name] for name in ("start", "alignment", "adaptive")}
    small = ablation(factors=third, design="fractional", resolution=3, arms={})
    assert "start = alignment x adaptive" in small.aliases
    assert len(arms(small)) * 2 == math.prod(len(factor.options) for factor in small.factors.values())
    assert Ablation(small).problems() == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"factors": {"a": {}}}, "needs either 'key', with 'on' and 'off', or 'levels'"),
        ({"factors": {"a": {**STARTS, "on": 3}}}, "'on' and 'off' belong to 'key'"),
        ({"factors": {"a": {"levels": {"one": {}}}}}, "two levels or more, not only 'one'"),
        ({"factors": {"a": STARTS}, "exclude": [{"a": "piss"}]}, "'a: piss' is no level of a factor; it has gaussian"),
        ({"factors": {"a": STARTS}, "exclude": [{"b": "on"}]}, "'b: on' is no level of a factor; factors: a"),
        (
            {"factors": {"a": ALIGNMENT}, "exclude": [{"a": True}, {"a": False}]},
            "no combination of the factors is left",
        ),
        ({"factors": {"a": STARTS}, "design": "fractional"}, "takes factors of two levels, and a has more"),
        ({"factors": SWITCHES, "design": "fractional", "exclude": [{"rank": "on"}]}, "no combination can be left out"),
        ({"factors": SWITCHES, "resolution": 3}, "resolution: 3 belongs to design: fractional"),
    ],
)
def test_a_design_that_cannot_be_is_refused_in_a_sentence(changes, said):
    with pytest.raises(ConfigError) as error:
        parse(AblationStudy, {"name": "s", **changes})
    assert any(said in problem for problem in error.value.problems), error.value.problems


def test_a_wrong_key_of_a_level_is_said_with_its_place():
    wrong = {"levels": {"one": {}, "two": {"adapter.rnk": 4}}}
    problems = Ablation(ablation(factors={"size": wrong}, arms={})).problems()
    assert any(problem.startswith("factors.size.levels.two: ") for problem in problems)
