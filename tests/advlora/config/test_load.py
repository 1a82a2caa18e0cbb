from __future__ import annotations

import pytest

from advlora.config import (
    TrialConfig,
    all_keys,
    leaves,
    parse,
    parse_override,
    parse_yaml,
    read_yaml,
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


def test_yaml_keeps_on_and_off_as_words():
    assert parse_yaml("{on: kmeans, off: gaussian, a: true, b: False}") == {
        "on": "kmeans",
        "off": "gaussian",
        "a": True,
        "b": False,
    }
    assert parse(TrialConfig, {"adapter": {"adaptive": parse_yaml("enabled: off")}}).adapter.adaptive.enabled is False


def test_yaml_reads_scientific_notation_as_numbers():
    assert parse_yaml("rate: 1e-3\nother: 2.5E+2\nname: e3\ncount: 12") == {
        "rate": 1e-3,
        "other": 250.0,
        "name": "e3",
        "count": 12,
    }


def test_yaml_cannot_build_objects():
    with pytest.raises(Exception, match="could not determine a constructor"):
        parse_yaml("!!python/object/apply:os.system ['true']")


def test_override_is_split_at_the_first_equals_sign():
    assert parse_override("adapter.rank=16") == ("adapter.rank", 16)
    assert parse_override("name=a=b") == ("name", "a=b")
    with pytest.raises(ConfigError, match="must be written as key=value"):
        parse_override("adapter.rank")


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


def test_an_unreadable_file_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*absent\.yaml: No such file"):
        read_yaml(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1, 2")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_yaml(broken)
    broken.write_text("- 1")
    with pytest.raises(ConfigError, match="must hold a mapping"):
        read_yaml(broken)
