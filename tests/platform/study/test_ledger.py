from __future__ import annotations

import json

import pytest

from advlora_platform.study.failures import Failure
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.ledger import Ledger, reopened
from advlora_platform.study.observer import Observer
from tests import builders

pytestmark = pytest.mark.unit


@pytest.fixture
def ledger(tmp_path):
    return Ledger(StudyFolder(tmp_path))


@pytest.fixture
def trial():
    return builders.trial(adapter__rank=4)


def test_a_trial_without_a_record_is_missing(ledger, trial):
    assert ledger.record(trial.id) is None
    assert ledger.records() == []


def test_a_trial_is_followed_from_start_to_end(ledger, trial):
    observer: Observer = ledger
    observer.trial_started(trial)
    assert ledger.record(trial.id).status == "running"
    observer.trial_reported(trial, 1, {"train/loss": 2.0})
    observer.trial_reported(trial, 2, {"train/loss": 1.0, "val/clean_r1": 0.5})
    observer.trial_finished(trial, {"train/loss": 1.0, "val/clean_r1": 0.5}, stopped_early=False)
    record = ledger.record(trial.id)
    assert (record.status, record.settled) == ("done", True)
    assert record.config["adapter"]["rank"] == 4
    assert [entry["epoch"] for entry in record.history] == [1, 2]
    assert record.metrics == {"train/loss": 1.0, "val/clean_r1": 0.5}
    assert record.ended >= record.began > 0


def test_what_cannot_be_trusted_is_noted(ledger, trial):
    ledger.trial_finished(trial, {"val/clean_r1": 0.5}, stopped_early=False, unreliable="monotone: no")
    assert ledger.record(trial.id).unreliable == "monotone: no"
    assert ledger.record(trial.id).settled


def test_a_record_survives_a_new_process(ledger, trial, tmp_path):
    ledger.trial_reported(trial, 1, {"train/loss": 2.0})
    ledger.trial_failed(trial, Failure("diverged", "loss nan"))
    assert Ledger(StudyFolder(tmp_path)).records() == ledger.records()
    assert ledger.record(trial.id).failure == Failure("diverged", "loss nan")


def test_where_a_trial_failed_lies_in_its_folder_until_it_is_tried_again(ledger, trial, tmp_path):
    ledger.trial_failed(trial, Failure("error", "KeyError: 'rank'", "Traceback ...\nKeyError: 'rank'\n"))
    file = StudyFolder(tmp_path).error(trial.id)
    assert file.read_text() == "error: KeyError: 'rank'\n\nTraceback ...\nKeyError: 'rank'\n"
    assert ledger.record(trial.id).failure == Failure("error", "KeyError: 'rank'")
    ledger.trial_started(trial)
    assert not file.exists()


def test_an_interrupted_trial_goes_on_and_repeats_no_epoch(ledger, trial):
    ledger.trial_started(trial)
    ledger.trial_reported(trial, 1, {"train/loss": 2.0})
    ledger.trial_reported(trial, 2, {"train/loss": 9.0})
    ledger.trial_started(trial)
    ledger.trial_reported(trial, 2, {"train/loss": 1.0})
    assert [(entry["epoch"], entry["train/loss"]) for entry in ledger.record(trial.id).history] == [(1, 2.0), (2, 1.0)]


@pytest.mark.parametrize(
    ("kind", "final"),
    [("diverged", True), ("out_of_memory", True), ("user_error", False), ("lost_worker", False), ("error", False)],
)
def test_every_failure_settles_a_trial_until_a_launch_tries_again_what_would_not_come_again(ledger, trial, kind, final):
    ledger.trial_failed(trial, Failure(kind, "why"))
    assert ledger.record(trial.id).settled
    (record,) = reopened(ledger.records())
    assert (record.settled, record.status) == ((True, "failed") if final else (False, "running"))


def test_a_trial_that_is_done_or_runs_is_to_a_launch_what_it_is(ledger, trial):
    ledger.trial_started(trial)
    assert reopened(ledger.records()) == ledger.records()
    ledger.trial_finished(trial, {}, stopped_early=True)
    assert reopened(ledger.records()) == ledger.records()


def test_the_time_between_launches_is_no_time_of_the_trial(ledger, trial, monkeypatch):
    clock = iter([100.0, 110.0, 500.0, 520.0])
    monkeypatch.setattr("advlora_platform.study.ledger.time.time", lambda: next(clock, 520.0))
    ledger.trial_started(trial)
    ledger.trial_reported(trial, 1, {"train/loss": 2.0})
    ledger.trial_started(trial)  # a later launch goes on from the checkpoint
    ledger.trial_reported(trial, 2, {"train/loss": 1.0})
    assert ledger.record(trial.id).spans == ((100.0, 110.0), (500.0, 520.0))
    assert ledger.record(trial.id).began == 100.0


def test_a_trial_that_was_stopped_early_is_settled_but_not_done(ledger, trial):
    ledger.trial_reported(trial, 1, {"val/clean_r1": 0.5})
    ledger.trial_finished(trial, {"val/clean_r1": 0.5}, stopped_early=True)
    assert (ledger.record(trial.id).status, ledger.record(trial.id).settled) == ("stopped", True)


def test_records_are_plain_json_and_no_draft_is_left(ledger, trial, tmp_path):
    ledger.trial_started(trial)
    files = list(StudyFolder(tmp_path).ledger.iterdir())
    assert [file.name for file in files] == [f"{trial.id}.json"]
    assert json.loads(files[0].read_text())["arm"] == "plain"


@pytest.mark.parametrize(
    "content", ["", '{"trial_id": ', "[]", "{}", '{"failure": null, "history": [], "other": 1}', "\x00"]
)
def test_a_damaged_file_is_named_and_the_rest_is_read(ledger, trial, tmp_path, caplog, content):
    ledger.trial_finished(trial, {"val/clean_r1": 0.5}, stopped_early=False)
    damaged = tmp_path / "ledger" / "cut.json"
    damaged.write_text(content)
    assert [record.trial_id for record in ledger.records()] == [trial.id]
    assert len(ledger.records()) == 1
    assert [record.message for record in caplog.records if str(damaged) in record.message] == caplog.messages
    assert len(caplog.messages) == 1
    assert "its trial counts as missing" in caplog.messages[0]


def test_a_damaged_trial_is_run_again(ledger, trial, tmp_path):
    ledger.trial_started(trial)
    (tmp_path / "ledger" / f"{trial.id}.json").write_text("{")
    assert ledger.record(trial.id) is None
    ledger.trial_finished(trial, {"val/clean_r1": 0.5}, stopped_early=False)
    assert ledger.record(trial.id).status == "done"
