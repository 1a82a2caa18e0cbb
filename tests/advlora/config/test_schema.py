"""Families of methods: what a section takes follows from its kind, and values are laid over a configuration by it."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from advlora.config import all_keys, applicable, in_effect, kind_path, parse, spelled, takes, vary
from advlora.config.base import Section, Switch, default_kind
from advlora.errors import ConfigError

pytestmark = pytest.mark.unit


class Plain(Section):
    kind: Literal["plain"] = "plain"


class Clusters(Section):
    kind: Literal["clusters"] = "clusters"
    number: int | None = None


Init = Annotated[Plain | Clusters, Field(discriminator="kind"), default_kind("clusters")]


class Penalty(Switch):
    weight: float = 0.1
    soft: bool = False


class Narrow(Section):
    kind: Literal["narrow"] = "narrow"
    rank: int = 8
    init: Init = Clusters()
    penalty: Penalty = Penalty()


class Whole(Section):
    kind: Literal["whole"] = "whole"
    tower: str = "vision"


Adapter = Annotated[Narrow | Whole, Field(discriminator="kind"), default_kind("narrow")]


class Run(Section):
    adapter: Adapter = Narrow()
    more: tuple[Adapter, ...] = ()
    penalty: Penalty = Penalty()
    seed: int = 0


BASE = {"adapter": {"rank": 16, "init": {"number": 4}, "penalty": {"weight": 0.5}}, "seed": 3}


def varied(values: dict, base: dict = BASE) -> Run:
    return parse(Run, vary(Run, base, values))


def problems(data: dict, where: str = "") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(Run, data, where)
    return caught.value.problems


def test_all_keys_are_those_of_every_kind_and_a_family_can_be_named_by_its_own_path():
    assert all_keys(Run) == [
        "adapter",
        "adapter.kind",
        "adapter.rank",
        "adapter.init",
        "adapter.init.kind",
        "adapter.init.number",
        "adapter.penalty.enabled",
        "adapter.penalty.weight",
        "adapter.penalty.soft",
        "adapter.tower",
        "more",
        "penalty.enabled",
        "penalty.weight",
        "penalty.soft",
        "seed",
    ]


def test_a_kind_can_be_left_out_or_be_all_that_is_said():
    assert parse(Run, {"adapter": {"rank": 4}}).adapter == Narrow(rank=4)
    assert parse(Run, {"adapter": "whole"}).adapter == Whole()
    assert parse(Run, {"adapter": {"init": "plain"}}).adapter == Narrow(init=Plain())
    assert parse(Run, {"more": ["whole", {"rank": 2}]}).more == (Whole(), Narrow(rank=2))


@pytest.mark.parametrize(
    "run", [Run(), Run(adapter=Whole(), more=(Narrow(init=Plain()),), penalty=Penalty(enabled=False))]
)
def test_a_configuration_is_read_back_from_its_dump(run):
    assert parse(Run, run.model_dump()) == run


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            {"adapter": {"kind": "whole", "rank": 3}},
            "adapter.rank: has no effect with adapter.kind 'whole'; it takes tower (kinds that take it: narrow)",
        ),
        (
            {"adapter": {"init": {"kind": "plain", "number": 3}}},
            "adapter.init.number: has no effect with adapter.init.kind 'plain'; it takes no keys "
            "(kinds that take it: clusters)",
        ),
        ({"adapter": {"rnk": 3}}, "unknown key 'adapter.rnk'; did you mean 'rank'?"),
        ({"adapter": {"kind": "whole", "zzz": 3}}, "unknown key 'adapter.zzz'; kind 'whole': it takes tower"),
        (
            {"adapter": "wholes"},
            "adapter.kind: 'wholes' is not allowed; allowed: 'narrow', 'whole'; did you mean 'whole'?",
        ),
        ({"adapter": {"rank": "x"}}, "adapter.rank: 'x' is not allowed; input should be a valid integer, unable to"),
        ({"adapter": {"penalty": {"wait": 1}}}, "unknown key 'adapter.penalty.wait'; did you mean 'weight'?"),
        ({"more": [{}, {"rank": 1, "tower": 2}]}, "more.1.tower: has no effect with more.1.kind 'narrow'"),
        (
            {"adapter": {"penalty": {"enabled": False, "weight": 0.7, "soft": True}}},
            "adapter.penalty: with enabled: false, soft, weight has no effect; leave it out",
        ),
        ({"adapter": 3}, "adapter: 3 is not allowed"),
    ],
)  # fmt: skip
def test_what_a_kind_does_not_take_is_one_sentence(data, sentence):
    (found,) = problems(data, "base.")
    assert found.removeprefix("unknown key '").startswith("base.")
    assert found.replace("base.", "").startswith(sentence)


def test_every_problem_of_every_member_comes_at_once():
    assert len(problems({"adapter": {"kind": "whole", "rank": 3, "zzz": 1}, "more": [{"rank": "x"}], "sed": 1})) == 4


def test_another_kind_leaves_behind_what_it_does_not_take():
    assert varied({"adapter.kind": "whole"}) == Run(adapter=Whole(), seed=3)
    assert varied({"adapter": "whole"}) == varied({"adapter.kind": "whole"})
    assert varied({"adapter.init": "plain"}).adapter == Narrow(rank=16, init=Plain(), penalty=Penalty(weight=0.5))
    assert varied({"adapter.kind": "narrow"}) == parse(Run, BASE)


def test_what_is_switched_off_leaves_its_keys_behind():
    assert varied({"adapter.penalty.enabled": False}).adapter.penalty == Penalty(enabled=False)
    assert varied({"adapter.penalty.enabled": True}).adapter.penalty == Penalty(weight=0.5)


def test_what_the_values_themselves_say_stays_and_is_refused():
    with pytest.raises(ConfigError, match=r"adapter\.rank: has no effect with adapter\.kind 'whole'"):
        varied({"adapter.rank": 2, "adapter": "whole"})
    with pytest.raises(ConfigError, match="with enabled: false, weight has no effect"):
        varied({"adapter.penalty.weight": 0.2, "adapter.penalty.enabled": False})
    with pytest.raises(ConfigError, match="unknown key 'adaptr'"):
        varied({"adaptr.rank": 2})


def test_the_base_stays_as_it_is_and_may_be_written_short():
    before = {"adapter": {"rank": 16, "init": {"number": 4}, "penalty": {"weight": 0.5}}, "seed": 3}
    varied({"adapter.kind": "whole", "seed": 4})
    assert before == BASE
    assert varied({"adapter.tower": "text"}, {"adapter": "whole"}).adapter == Whole(tower="text")
    assert varied({"adapter.init.number": 2}, {}).adapter == Narrow(init=Clusters(number=2))


def test_the_order_of_values_does_not_matter():
    values = {"adapter.init.number": 2, "adapter.init": "clusters", "adapter.kind": "narrow"}
    base = {"adapter": "whole"}
    assert varied(values, base) == varied(dict(reversed(values.items())), base)
    assert list(spelled(Run, values)) == ["adapter.kind", "adapter.init.kind", "adapter.init.number"]


def test_paths_of_families_are_written_in_full():
    assert kind_path(Run, "adapter") == "adapter.kind"
    assert kind_path(Run, "adapter.init") == "adapter.init.kind"
    assert kind_path(Run, "adapter.penalty") == "adapter.penalty"
    assert kind_path(Run, "adapter.zzz.init") == "adapter.zzz.init"
    assert spelled(Run, {"adapter.init": "plain", "seed": 1}) == {"adapter.init.kind": "plain", "seed": 1}


def test_a_configuration_takes_the_keys_of_its_kinds():
    whole, plain = {"adapter": "whole"}, {"adapter": {"init": "plain"}}
    assert takes(Run, {}, "adapter.init.number")
    assert not takes(Run, plain, "adapter.init.number")
    assert takes(Run, plain, "adapter.penalty.weight")
    assert not takes(Run, whole, "adapter.init")
    assert takes(Run, whole, "adapter.tower")
    assert not takes(Run, {}, "adapter.tower")


def test_a_key_behind_a_switch_that_is_off_has_no_effect():
    off = {"adapter": {"penalty": {"enabled": False}}}
    assert not in_effect(Run, off, "adapter.penalty.weight")
    assert in_effect(Run, off, "adapter.penalty.enabled")
    assert in_effect(Run, off, "penalty.weight")
    assert in_effect(Run, {}, "adapter.penalty.weight")


def test_only_values_that_apply_are_laid_below():
    off = {"adapter.init": "plain", "adapter.penalty.enabled": False}
    assert applicable(Run, BASE, off, {"adapter": "whole"}) == {"adapter.kind": "whole"}
    assert applicable(Run, BASE, off, {"adapter.rank": 2}) == {
        "adapter.init.kind": "plain",
        "adapter.penalty.enabled": False,
        "adapter.rank": 2,
    }
    chosen = applicable(Run, BASE, off, {"adapter.init": "clusters", "adapter.init.number": 3})
    assert varied(chosen).adapter == Narrow(rank=16, init=Clusters(number=3), penalty=Penalty(enabled=False))
