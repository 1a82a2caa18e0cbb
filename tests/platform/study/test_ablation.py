from __future__ import annotations

import pytest

from advlora.config import parse
from advlora.errors import ConfigError
from advlora_platform.study.ablation import AblationStudy, arms

pytestmark = pytest.mark.unit

FACTORS = {
    "clustering": {"key": "adapter.clustering.enabled"},
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
    assert planned[-1].values == {
        "adapter.clustering.enabled": False,
        "adapter.adaptive.enabled": False,
        "adapter.kind": "full",
    }


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
    assert study().arm_values["all on"] == {"adapter.clustering.enabled": True, "adapter.adaptive.enabled": True}
