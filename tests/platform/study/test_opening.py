from __future__ import annotations

import pytest

from advlora.errors import UserError
from advlora_platform.study import open_folder, read_json, reopen, trials_of
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


def test_a_folder_of_another_study_is_refused(tmp_path):
    open_folder(load_study("quickstart", "ablation"), tmp_path, {})
    with pytest.raises(UserError, match="holds the ablation 'quickstart', not the sweep"):
        open_folder(load_study("quickstart", "sweep"), tmp_path, {})


def test_finalists_are_trials_under_the_strong_evaluation():
    study = load_study("advlora", "sweep")
    trials = trials_of(study)
    assert trials.protocol_of("search") == study.protocol
    assert trials.protocol_of("confirm") == study.confirm.protocol
    searched, confirmed = (trials.trial("a", 0, {}, phase) for phase in ("search", "confirm"))
    assert searched.id != confirmed.id
