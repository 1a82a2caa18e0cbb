from __future__ import annotations

import math

import pytest

from advlora.config import (
    TrialConfig,
    all_keys,
    leaves,
    parse,
    with_values,
)
from advlora.errors import ConfigError

pytestmark = pytest.mark.unit


def problems(data: dict) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(TrialConfig, data)
    return caught.value.problems


def test_every_problem_is_said_at_once_with_key_value_allowed_and_nearest():
    found = problems(
        {
            "adapter": {"rnk": 8, "rank": 0, "target": "all_linear"},
            "attack": {"epsilon": 8},
            "seed": "x",
            "optimizer": {},
        }
    )
    assert len(found) == 6
    text = "\n".join(found)
    assert "unknown key 'adapter.rnk'; did you mean 'rank'?" in text
    assert "adapter.rank: 0 is not allowed; input should be greater than or equal to 1" in text
    assert "adapter.target: 'all_linear' is not allowed" in text
    assert "did you mean 'all-linear'?" in text
    assert "epsilon 8 is larger than the whole pixel range [0, 1]" in text
    assert "'8/255'" in text
    assert "seed: 'x' is not allowed" in text
    assert "unknown key 'optimizer'; did you mean 'optimiser'?" in text


def test_an_unknown_key_without_a_neighbour_lists_what_is_allowed():
    assert problems({"model": {"zzzz": 1}}) == ["unknown key 'model.zzzz'; allowed: source, name, pretrained"]


@pytest.mark.parametrize(("written", "value"), [("4/255", 4 / 255), (0.25, 0.25), ("8 / 255", 8 / 255), (1, 1.0)])
def test_epsilon_is_a_number_or_a_fraction(written, value):
    assert parse(TrialConfig, {"attack": {"epsilon": written}}).attack.epsilon == pytest.approx(value)


@pytest.mark.parametrize("written", ["4/0", "four/255", "-1/255"])
def test_an_impossible_fraction_is_refused(written):
    assert "attack.epsilon" in problems({"attack": {"epsilon": written}})[0]


def test_l2_may_exceed_one():
    assert parse(TrialConfig, {"attack": {"norm": "l2", "epsilon": 1.5}}).attack.epsilon == 1.5


def test_a_switch_takes_words_too():
    assert parse(TrialConfig, {"adapter": {"adaptive": {"enabled": "off"}}}).adapter.adaptive.enabled is False


@pytest.mark.parametrize(
    "data",
    [
        {"adapter": {"rank": True}},
        {"adapter": {"rank": "8"}},
        {"adapter": {"rank": 2**31}},
        {"seed": 2**32},
        {"seed": "010"},
        {"adapter": {"init": {"seed": -1}}},
        {"optimiser": {"clip_norm": math.inf}},
        {"optimiser": {"learning_rate": "1"}},
        {"optimiser": {"weight_decay": math.nan}},
        {"attack": {"epsilon": True}},
        {"adapter": {"adaptive": {"initial": -math.inf}}},
    ],
)
def test_loose_types_and_endless_numbers_are_refused(data):
    ((key, value),) = leaves(data)
    assert problems(data)[0].startswith(f"{key}: {value!r} is not allowed; ")


def test_values_are_set_in_a_copy():
    tree = {"a": {"b": 1, "c": 2}}
    assert with_values(tree, {"a.b": 5, "d.e": 6}) == {"a": {"b": 5, "c": 2}, "d": {"e": 6}}
    assert tree == {"a": {"b": 1, "c": 2}}

    assert dict(leaves({"a": {"b": 1}, "c": {}})) == {"a.b": 1, "c": {}}


def test_all_keys_reach_into_sections():
    keys = all_keys(TrialConfig)
    assert {"seed", "adapter.rank", "adapter.init", "adapter.init.clusters", "adapter.kind", "attack.epsilon"} <= set(
        keys
    )
    assert "adapter" in keys  # short for adapter.kind
    assert "adapter.alignment" not in keys
