from __future__ import annotations

import pytest

from advlora.config import parse
from advlora.errors import ConfigError
from advlora_platform.study.ablation import AblationStudy, arms

pytestmark = pytest.mark.unit

FACTORS = {
    "clustering": {"key": "adapter.init", "on": "kmeans", "off": "gaussian"},
    "adaptive": {"key": "adapter.adaptive.enabled"},
}


def study(**changes) -> AblationStudy:
    return parse(
        AblationStudy, {"name": "s", "factors": FACTORS, "arms": {"full": {"adapter.kind": "full"}}, **changes}
    )


def test_a_factorial_has_every_combination_and_the_further_arms():
    planned = arms(study())
    assert [arm.name for arm in planned] == ["all off", "adaptive", "clustering", "all on", "full"]
    assert planned[1].factors == {"clustering": False, "adaptive": True}
    assert planned[-1].factors is None
    assert planned[0].values == {"adapter.init.kind": "gaussian", "adapter.adaptive.enabled": False}
    assert planned[-1].values == {"adapter.kind": "full"}  # which takes neither init nor scale


def test_what_is_off_asks_nothing_of_an_arm_with_another_method():
    further = {"dora": {"adapter": "dora"}, "pissa": {"adapter.init": "pissa"}, "wide": {"adapter.rank": 16}}
    planned = {arm.name: arm.values for arm in arms(study(arms=further))}
    assert planned["dora"] == {"adapter.kind": "dora"}
    assert planned["pissa"] == {"adapter.adaptive.enabled": False, "adapter.init.kind": "pissa"}
    assert planned["wide"] == {**planned["all off"], "adapter.rank": 16}


def test_a_factor_without_effect_where_another_is_off_is_left_out():
    factors = {**FACTORS, "columns": {"key": "adapter.init.axis", "on": "columns", "off": "rows"}}
    planned = {arm.name: arm.values for arm in arms(study(factors=factors, design="leave_one_out"))}
    assert planned["adaptive + columns"]["adapter.init.axis"] == "columns"  # refused: gaussian has no axis
    assert planned["all on"]["adapter.init.axis"] == "columns"
    (off,) = [arm for arm in arms(study(factors=factors, design="one_in")) if arm.name == "all off"]
    assert off.values == {"adapter.init.kind": "gaussian", "adapter.adaptive.enabled": False}


def test_leave_one_out_and_one_in():
    names = [arm.name for arm in arms(study(design="leave_one_out", arms={}))]
    assert names == ["all on", "adaptive", "clustering"]
    names = [arm.name for arm in arms(study(design="one_in", arms={}))]
    assert names == ["all off", "clustering", "adaptive"]


def test_a_study_refuses_what_it_cannot_mean():
    for changes, message in (
        ({"factors": {}, "arms": {}}, "needs factors or arms"),
        ({"seeds": [1, 1]}, "must differ"),
        ({"name": "../escape"}, "use letters, digits"),
        ({"protocol": {"epsilon": 9}}, "larger than the whole pixel range"),
    ):
        with pytest.raises(ConfigError, match=message):
            study(**changes)


def test_an_arm_is_known_by_its_values():
    assert study().arm_values == {arm.name: arm.values for arm in arms(study())}
    assert study().arm_values["all on"] == {"adapter.init.kind": "kmeans", "adapter.adaptive.enabled": True}
