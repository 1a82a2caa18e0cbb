from __future__ import annotations

import re

import pytest

from advlora.errors import UserError
from advlora_platform.study import home, open_folder, read_json, reopen, trials_of
from advlora_platform.study.library import load_study

pytestmark = pytest.mark.unit


def test_a_study_comes_back_as_it_was_put_in(tmp_path):
    for study in (load_study("quickstart", "ablation", ["adapter.rank=4"]), load_study("advlora", "sweep")):
        open_folder(study, tmp_path / study.name, {})
        again, folder = reopen(tmp_path / study.name)
        assert again == study
        assert again.trial == study.trial
        assert folder.path == tmp_path / study.name


def test_a_folder_keeps_its_id_and_learns_who_wrote_it_last(tmp_path):
    study = load_study("quickstart", "ablation")
    first = read_json(open_folder(study, tmp_path, {"commit": "a"}).identity)
    second = read_json(open_folder(study, tmp_path, {"commit": "b"}).identity)
    assert first["study_id"] == second["study_id"]
    assert (first["provenance"], second["provenance"]) == ({"commit": "a"}, {"commit": "b"})


def test_a_folder_of_another_study_is_refused_with_what_differs(tmp_path):
    open_folder(load_study("quickstart", "ablation"), tmp_path, {})
    with pytest.raises(UserError, match=r"holds another study: kind is ablation there and sweep here.*--out"):
        open_folder(load_study("quickstart", "sweep"), tmp_path, {})
    before = (tmp_path / "study.yaml").read_text()
    with pytest.raises(UserError, match=r"adapter\.rank is 8 there and 4 here, .* more differences; choose another"):
        open_folder(load_study("quickstart", "ablation", ["adapter.rank=4"]), tmp_path, {})
    assert (tmp_path / "study.yaml").read_text() == before


@pytest.mark.parametrize(
    "more",
    [
        ["seeds=[0,1,2,3]"],
        ["seeds=[7]"],
        ["tuning.trials=5"],
        ["margin=2", "confidence=0.9", "report=[val/clean_r1]", "description=other words"],
        ["max_concurrent=1", "resources.cpus_per_worker=2", "data.store=disk"],
        ["arms.further={adapter.rank: 2}"],
    ],
)
def test_more_of_the_same_content_extends_a_folder(tmp_path, more):
    open_folder(load_study("quickstart", "ablation"), tmp_path / "quickstart", {})
    assert home(load_study("quickstart", "ablation", more), tmp_path) == (tmp_path / "quickstart", "")


def test_more_trials_and_a_confirmation_extend_a_sweep(tmp_path):
    open_folder(load_study("quickstart", "sweep"), tmp_path / "quickstart-sweep", {})
    more = ["search.trials=99", "budget_seconds=60", "confirm={protocol: strong}"]
    assert home(load_study("quickstart", "sweep", more), tmp_path) == (tmp_path / "quickstart-sweep", "")


@pytest.mark.parametrize(
    ("kind", "change", "key"),
    [
        ("ablation", "adapter.rank=4", "adapter.rank"),
        ("ablation", "protocol.samples.test=9", "protocol.samples.test"),
        ("ablation", "arms={full fine-tuning: {adapter.kind: full}}", "arm 'pretrained'"),
        ("ablation", "tuning=null", "tuning"),
        ("ablation", "design=one_in", "arm '"),
        ("sweep", "search.sampler=random", "search.sampler"),
        ("sweep", "seed=5", "seed"),
        ("sweep", "points=[]", "points"),
    ],
)
def test_other_content_goes_to_a_folder_of_its_own_and_is_found_there_again(tmp_path, kind, change, key):
    study = load_study("quickstart", kind, [change])
    open_folder(load_study("quickstart", kind), tmp_path / study.name, {})
    folder, why = home(study, tmp_path)
    assert re.fullmatch(f"{study.name}-[0-9a-f]{{6}}", folder.name)
    assert re.search(f"holds another study: {key}.*; this one is in {folder}$", why)
    open_folder(study, folder, {})
    assert home(study, tmp_path) == (folder, why)


def test_a_study_that_cannot_be_read_keeps_its_folder(tmp_path):
    study = load_study("quickstart", "ablation")
    held = tmp_path / "quickstart" / "study.yaml"
    held.parent.mkdir()
    held.write_text("kind: ablation\nname: [")
    folder, why = home(study, tmp_path)
    assert folder != held.parent
    assert "its study.yaml cannot be read" in why


def test_finalists_are_trials_under_the_strong_evaluation():
    study = load_study("advlora", "sweep")
    trials = trials_of(study)
    assert trials.protocol_of("search") == study.protocol
    assert trials.protocol_of("confirm") == study.confirm.protocol
    searched, confirmed = (trials.trial("a", 0, {}, phase) for phase in ("search", "confirm"))
    assert searched.id != confirmed.id
