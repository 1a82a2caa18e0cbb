from __future__ import annotations

import pytest

from advlora.config import DataConfig, EvaluationProtocol, parse
from advlora.data.transfer import NamedSet
from advlora.errors import UserError
from advlora_platform.study.trials import TrialFactory, to_tune

pytestmark = pytest.mark.unit
PROTOCOL = EvaluationProtocol()


def test_a_trial_is_known_by_all_that_determines_its_numbers():
    def factory(**changes):
        return TrialFactory(**{"base": {}, "protocol": PROTOCOL, "data_hash": "d", **changes})

    trial = factory().trial("a", 0, {"adapter.rank": 4}, "ablate")
    assert trial.config.adapter.rank == 4
    assert trial.config.seed == 0
    assert trial.id == factory().trial("another name", 0, {"adapter.rank": 4}, "ablate").id
    others = [
        factory().trial("a", 1, {"adapter.rank": 4}, "ablate"),
        factory().trial("a", 0, {"adapter.rank": 5}, "ablate"),
        factory(base={"adapter": "dora"}).trial("a", 0, {"adapter.rank": 4}, "ablate"),
        factory().trial("a", 0, {"adapter.rank": 4}, "tune"),
        factory(data_hash="e").trial("a", 0, {"adapter.rank": 4}, "ablate"),
        factory(protocol=parse(EvaluationProtocol, {"epsilon": "4/255"})).trial("a", 0, {"adapter.rank": 4}, "ablate"),
    ]
    assert len({trial.id, *(other.id for other in others)}) == 7


def test_further_sets_belong_to_the_trials_that_are_measured_on_them():
    sets = (NamedSet("cars", DataConfig(name="/data/cars")),)
    plain, here = (TrialFactory({}, PROTOCOL, "d", **more) for more in ({}, {"transfer": sets, "transfer_hash": "c"}))
    moved = TrialFactory({}, PROTOCOL, "d", transfer=sets, transfer_hash="other")
    for phase, measured in (("ablate", True), ("confirm", True), ("tune", False), ("search", False)):
        ids = {factory.trial("a", 0, {}, phase).id for factory in (plain, here, moved)}
        assert len(ids) == (3 if measured else 1)
        assert here.transfer_of(here.trial("a", 0, {}, phase)) == (sets if measured else ())


def test_a_trial_is_not_known_by_what_changes_no_number():
    def trial(**base):
        return TrialFactory(base, PROTOCOL, "d").trial("a", 0, {"adapter.rank": 4}, "ablate")

    assert trial(resources={"memory_gb_per_worker": 9, "cpus_per_worker": 4}, data={"store": "disk"}).id == trial().id
    assert trial(resources={"workers": 2}).id != trial().id


def test_values_may_choose_another_method_than_the_base():
    factory = TrialFactory({"adapter": {"rank": 4, "init": {"restarts": 2}}}, PROTOCOL, "d")
    assert factory.trial("a", 0, {"adapter": "full"}, "ablate").config.adapter.kind == "full"
    gaussian = factory.trial("a", 0, {"adapter.init": "gaussian"}, "ablate")
    assert (gaussian.config.adapter.rank, gaussian.config.adapter.init.kind) == (4, "gaussian")
    assert factory.from_tune(to_tune(gaussian)) == gaussian


def test_a_model_in_a_folder_is_known_by_its_weights(tmp_path):
    base = {"model": {"source": "open_clip", "name": f"local-dir:{tmp_path}"}}
    factory = TrialFactory(base, PROTOCOL, "d")
    ids = []
    for content in ("poisoned", "poisoned again"):
        (tmp_path / "open_clip_model.safetensors").write_text(content)
        ids.append(factory.trial("a", 0, {}, "ablate").id)
    assert ids[0] != ids[1]


def test_a_trial_survives_the_way_through_tune():
    factory = TrialFactory({}, PROTOCOL, "d")
    trial = factory.trial("a", 3, {"adapter.rank": 4}, "search")
    assert factory.from_tune(to_tune(trial)) == trial
    assert not trial.test


def test_a_process_with_other_code_refuses_the_trial():
    factory = TrialFactory({}, PROTOCOL, "d")
    written_elsewhere = {**to_tune(factory.trial("a", 3, {}, "search")), "trial": "0" * 16}
    with pytest.raises(UserError, match="have the same on every node"):
        factory.from_tune(written_elsewhere)
