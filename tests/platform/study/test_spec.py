"""What a study answers whatever its kind."""

from __future__ import annotations

import pickle

import pytest

from advlora.config import EvaluationProtocol, parse
from advlora.errors import ConfigError
from advlora_platform.study.ablation import AblationStudy
from advlora_platform.study.library import load_study, read_study
from advlora_platform.study.sweep import SweepStudy

pytestmark = pytest.mark.unit
STRONG = {"epsilon": "2/255", "attacks": [{"kind": "pgd", "steps": 50}]}


def ablation(**changes) -> AblationStudy:
    return parse(AblationStudy, {"name": "a", "arms": {"small": {"adapter.rank": 2}}, **changes})


def sweep(**changes) -> SweepStudy:
    parameters = {"adapter.rank": {"type": "int", "low": 1, "high": 8}}
    return parse(SweepStudy, {"name": "s", "parameters": parameters, **changes})


def test_the_base_is_a_trial():
    study = ablation(base={"adapter": {"rank": 4}, "optimiser": {"epochs": 3}})
    assert (study.trial.adapter.rank, study.trial.optimiser.epochs) == (4, 3)
    assert study.trial_with({"adapter.rank": 2}).adapter.rank == 2
    assert study.trial_with({"adapter.rank": 2}).optimiser.epochs == 3
    assert pickle.loads(pickle.dumps(study)).trial == study.trial


def test_a_study_with_an_impossible_base_does_not_exist():
    with pytest.raises(ConfigError) as refused:
        read_study({"kind": "ablation", "name": "a", "base": {"adapter": {"rank": 0, "rnk": 4}}, "arms": {"a": {}}})
    assert len(refused.value.problems) == 2
    assert all("base.adapter." in problem for problem in refused.value.problems)
    with pytest.raises(ConfigError, match="rank"):
        ablation().trial_with({"adapter.rank": 0})


def test_objectives_follow_the_protocol():
    study = load_study("advlora", "sweep", ["protocol.epsilon=4/255", "search.objectives=[robust,clean,cost/seconds]"])
    objectives = study.objectives()
    assert [str(metric) for metric in objectives] == ["val/robust_r1:4_255", "val/clean_r1", "cost/seconds"]
    assert [metric.direction for metric in objectives] == ["max", "max", "min"]
    assert [str(metric) for metric in ablation(protocol={"epsilon": "4/255"}).objectives()] == ["val/robust_r1:4_255"]


def test_objectives_can_be_asked_for_another_protocol():
    strong = parse(EvaluationProtocol, STRONG)
    for study in (ablation(), sweep()):
        assert [str(metric) for metric in study.objectives(strong)] == ["val/robust_r1:2_255"]


def test_numbers_are_reported_under_the_evaluation_that_confirms():
    confirmed = sweep(confirm={"protocol": STRONG})
    assert confirmed.reported_protocol == confirmed.confirm.protocol != confirmed.protocol
    assert list(confirmed.protocols) == ["", "confirm."]
    for study in (ablation(), sweep()):
        assert study.reported_protocol == study.protocol
        assert study.protocols == {"": study.protocol}


def test_only_an_ablation_knows_its_arms_beforehand():
    assert ablation().arm_values == {"small": {"adapter.rank": 2}}
    assert sweep().arm_values == {}


def test_further_sets_are_a_part_of_what_a_study_is_but_not_where_they_lie():
    def content(**transfer) -> dict:
        return ablation(transfer={"sets": ["fare-13", {"name": "mine", "templates": "simple"}], **transfer}).content

    assert content(root="/data") == content(root="~/data")
    assert len({str(each) for each in (content(), content(sets=["mine"]), ablation().content)}) == 3
    assert ablation(transfer={"sets": ["tecoa-15", "mine"]}).transfer_names[-2:] == ("eurosat", "mine")
    assert ablation().transfer_names == ()


def test_a_search_is_never_measured_on_further_sets():
    with pytest.raises(ConfigError, match="transfer has no effect without confirm"):
        sweep(transfer={"sets": ["fare-13"]})
    assert sweep(transfer={"sets": ["mine"]}, confirm={"protocol": STRONG}).transfer_names == ("mine",)
