from __future__ import annotations

import pytest

from advlora.config import EvaluationProtocol, parse, read_yaml
from advlora.errors import ConfigError, UserError
from advlora.metrics import MEAN_RECALL, RERANKED, Metric, recall_names
from advlora_platform.study.arms import arms
from advlora_platform.study.library import load_any, load_study, read_study, shipped, shipped_protocols
from advlora_platform.study.spec import AblationStudy, SweepStudy, direction, objective_metrics, reportable
from advlora_platform.study.trials import TrialFactory, to_tune

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


def test_a_trial_is_known_by_all_that_determines_its_numbers():
    def factory(**changes):
        return TrialFactory(**{"base": {}, "protocol": study().protocol, "data_hash": "d", **changes})

    trial = factory().trial("a", 0, {"adapter.rank": 4}, "ablate")
    assert trial.config.adapter.rank == 4
    assert trial.config.seed == 0
    assert trial.id == factory().trial("another name", 0, {"adapter.rank": 4}, "ablate").id
    others = [
        factory().trial("a", 1, {"adapter.rank": 4}, "ablate"),
        factory().trial("a", 0, {"adapter.rank": 5}, "ablate"),
        factory().trial("a", 0, {"adapter.rank": 4}, "tune"),
        factory(data_hash="e").trial("a", 0, {"adapter.rank": 4}, "ablate"),
        factory(base={"adapter": "dora"}).trial("a", 0, {"adapter.rank": 4}, "ablate"),
        factory(protocol=study(protocol={"epsilon": "4/255"}).protocol).trial("a", 0, {"adapter.rank": 4}, "ablate"),
    ]
    assert len({trial.id, *(other.id for other in others)}) == 7


def test_a_trial_is_not_known_by_what_changes_no_number():
    def trial(**base):
        return TrialFactory(base, study().protocol, "d").trial("a", 0, {"adapter.rank": 4}, "ablate")

    assert trial(resources={"memory_gb_per_worker": 9, "cpus_per_worker": 4}, data={"store": "disk"}).id == trial().id
    assert trial(resources={"workers": 2}).id != trial().id


def test_values_may_choose_another_method_than_the_base():
    factory = TrialFactory({"adapter": {"rank": 4, "init": {"restarts": 2}}}, study().protocol, "d")
    assert factory.trial("a", 0, {"adapter": "full"}, "ablate").config.adapter.kind == "full"
    gaussian = factory.trial("a", 0, {"adapter.init": "gaussian"}, "ablate")
    assert (gaussian.config.adapter.rank, gaussian.config.adapter.init.kind) == (4, "gaussian")
    assert factory.from_tune(to_tune(gaussian)) == gaussian


def test_a_model_in_a_folder_is_known_by_its_weights(tmp_path):
    base = {"model": {"source": "open_clip", "name": f"local-dir:{tmp_path}"}}
    factory = TrialFactory(base, study().protocol, "d")
    ids = []
    for content in ("poisoned", "poisoned anew"):
        (tmp_path / "open_clip_model.safetensors").write_text(content)
        ids.append(factory.trial("a", 0, {}, "ablate").id)
    assert ids[0] != ids[1]


def test_a_trial_survives_the_way_through_tune():
    factory = TrialFactory({}, study().protocol, "d")
    trial = factory.trial("a", 3, {"adapter.rank": 4}, "search")
    assert factory.from_tune(to_tune(trial)) == trial
    assert not trial.test


def test_a_process_with_other_code_refuses_the_trial():
    factory = TrialFactory({}, study().protocol, "d")
    written_elsewhere = {**to_tune(factory.trial("a", 3, {}, "search")), "trial": "0" * 16}
    with pytest.raises(UserError, match="have the same on every node"):
        factory.from_tune(written_elsewhere)


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


def test_an_override_may_switch_a_method_and_leaves_behind_what_it_does_not_take():
    clean = load_study("quickstart", "ablation", ["base.adapter.kind=full"])
    assert clean.base["adapter"] == {"kind": "full"}
    switched = load_study("advlora", "sweep", ["adapter=dora", "adapter.dropout=0.1"])
    assert switched.base["adapter"] == {"kind": "dora", "target": "all-linear", "dropout": 0.1}
    for order in (["adapter.rank=4", "adapter=full"], ["adapter=full", "adapter.rank=4"]):
        with pytest.raises(ConfigError, match=r"base\.adapter\.rank: has no effect with base\.adapter\.kind 'full'"):
            load_study("quickstart", "ablation", order)


def test_an_unknown_study_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'quickstart'"):
        load_study("quickstrat", "ablation")
    with pytest.raises(ConfigError, match="does not exist"):
        load_study("absent.yaml", "ablation")
    with pytest.raises(ConfigError, match="advlora sweep"):
        read_study({"kind": "sweep"}, expected="ablation")
    with pytest.raises(ConfigError, match="kind: None is not allowed"):
        read_study({})


def test_objectives_follow_the_protocol():
    sweep = load_study("advlora", "sweep", ["protocol.epsilon=4/255", "search.objectives=[robust,clean,cost/seconds]"])
    assert objective_metrics(sweep) == ("val/robust_r1:4_255", "val/clean_r1", "cost/seconds")
    assert [direction(name) for name in objective_metrics(sweep)] == ["max", "max", "min"]


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


def test_what_an_ablation_may_report_are_the_names_that_examinations_give():
    plain = study(protocol={"curve": ["4/255"], "rerank": 8})
    single = [*recall_names(), *recall_names(reranked=True)]
    recalls = [*single, MEAN_RECALL, f"{RERANKED}{MEAN_RECALL}"]
    measured = [str(Metric.clean("test", name)) for name in recalls]
    measured += [str(Metric.robust("test", 4 / 255, name)) for name in recalls]
    measured += [str(Metric.success("val", 8 / 255, name)) for name in single]
    assert {*measured, "test/attack_success_rate", "test/clean_r1", "val/robust_r1:4_255"} <= set(reportable(plain))
    lower = [name for name in reportable(plain) if direction(name) == "min"]
    assert lower == [name for name in reportable(plain) if "success" in name]
