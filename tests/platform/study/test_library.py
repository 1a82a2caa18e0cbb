from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advlora.config import EvaluationProtocol, parse, read_yaml
from advlora.errors import ConfigError
from advlora_platform.shelves import shipped, shipped_protocols
from advlora_platform.study.ablation import AblationStudy, arms
from advlora_platform.study.library import load_any, load_study, read_study
from advlora_platform.study.sweep import SweepStudy

pytestmark = pytest.mark.unit


def test_shipped_studies_are_valid_and_found_by_name():
    assert {"quickstart", "components"} <= set(shipped("ablation"))
    assert {"quickstart", "advlora"} <= set(shipped("sweep"))
    assert isinstance(load_study("components", "ablation"), AblationStudy)
    assert isinstance(load_study("advlora", "sweep"), SweepStudy)
    assert load_any("quickstart").kind == "ablation"
    assert len(arms(load_study("components", "ablation"))) == 14


def test_overrides_reach_the_trial_and_the_study():
    changed = load_study("quickstart", "ablation", ["adapter.rank=4", "protocol.samples.val=10", "seeds=[7]"])
    assert changed.base["adapter"]["rank"] == 4
    assert changed.protocol.samples.val == 10
    assert changed.seeds == (7,)
    with pytest.raises(ConfigError, match=r"unknown key 'adaptr\.rank' in --set; did you mean 'adapter'"):
        load_study("quickstart", "ablation", ["adaptr.rank=4"])


def test_an_unknown_study_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'quickstart'"):
        load_study("quickstrat", "ablation")
    with pytest.raises(ConfigError, match="does not exist"):
        load_study("absent.yaml", "ablation")
    with pytest.raises(ConfigError, match="advlora sweep"):
        read_study({"kind": "sweep"}, expected="ablation")
    with pytest.raises(ConfigError, match="kind: None is not allowed"):
        read_study({})


SWEEP = {"kind": "sweep", "name": "s", "parameters": {"adapter.rank": {"type": "int", "low": 1, "high": 8}}}


def test_a_protocol_may_be_named():
    strong = parse(EvaluationProtocol, read_yaml(shipped_protocols()["strong"]))
    study = read_study({**SWEEP, "protocol": "quick", "confirm": {"protocol": "strong", "top": 2}})
    assert study.protocol.attacks[0].label == "pgd-10"
    assert (study.confirm.protocol, study.confirm.top) == (strong, 2)
    assert read_study({**SWEEP, "protocol": {"interval": 2}}).protocol.interval == 2


def test_a_named_protocol_may_be_changed_key_by_key():
    study = read_study({**SWEEP, "protocol": "strong"}, ["protocol.samples.val=7"])
    assert (study.protocol.samples.val, study.protocol.attacks[1].kind) == (7, "apgd-t")
    named = read_study(SWEEP, ["protocol=strong", "protocol.interval=1", "confirm={protocol: autoattack}"])
    assert (named.protocol.interval, named.protocol.attacks[0].kind) == (1, "apgd-ce")
    assert named.confirm.protocol.attacks[0].kind == "autoattack"


@pytest.mark.parametrize(
    ("changes", "where"), [({"protocol": "strnog"}, "protocol: "), ({"confirm": {"protocol": "strnog"}}, "confirm.")]
)
def test_an_unknown_protocol_is_refused_with_the_nearest_name(changes, where):
    with pytest.raises(ConfigError, match=r"no shipped protocol is called 'strnog'.*did you mean 'strong'") as refused:
        read_study({**SWEEP, **changes})
    assert refused.value.problems[0].startswith(where)


def test_an_override_may_switch_a_method_and_leaves_behind_what_it_does_not_take():
    clean = load_study("quickstart", "ablation", ["base.adapter.kind=full"])
    assert clean.base["adapter"] == {"kind": "full"}
    switched = load_study("advlora", "sweep", ["adapter=dora", "adapter.dropout=0.1"])
    assert switched.base["adapter"] == {"kind": "dora", "target": "all-linear", "dropout": 0.1}
    for order in (["adapter.rank=4", "adapter=full"], ["adapter=full", "adapter.rank=4"]):
        with pytest.raises(ConfigError, match=r"base\.adapter\.rank: has no effect with base\.adapter\.kind 'full'"):
            load_study("quickstart", "ablation", order)


KEYS = [
    *(
        "base",
        "base.adapter",
        "adapter.init",
        "seeds",
        "arms",
        "arms.a",
        "factors.f",
        "factors.f.key",
        "tuning",
        "kind",
    ),
    *("kind", "protocol", "protocol.attacks", "protocol.attacks.kind", "name", "x", "all_on", "design", "base.seed"),
]
VALUES = [
    *("", "pgd", "[", "'", "{a: b}", "{kind: pgd}", "[1, [2]]", "1e400", ".nan", "-1", "true", "010", "a: b # c"),
    *("{adapter: 3}", "{kind: {}}", "{parameters: {a: {type: int}}}", "[{kind: sga}]", "[null]", "{a.b: 1}"),
]


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)), min_size=1, max_size=3))
def test_any_override_gives_a_study_or_sentences(changes):
    try:
        study = load_study("quickstart", "ablation", [f"{key}={value}" for key, value in changes])
        study.content.items()
    except ConfigError as error:
        problems = error.problems
    else:
        problems = ["it is a study"]
    assert all(problem.strip() and "\n" not in problem for problem in problems)
