from __future__ import annotations

import json

import pytest

from advlora_platform.study.cells import CellFactory
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.ledger import Ledger
from advlora_platform.study.observer import Failure, Observer

pytestmark = pytest.mark.unit


@pytest.fixture
def ledger(tmp_path):
    return Ledger(StudyFolder(tmp_path))


@pytest.fixture
def cell(protocol):
    return CellFactory({}, protocol, "d").cell("LoRA", 0, {"adapter.rank": 4}, "ablate")


@pytest.fixture
def protocol():
    from advlora.config import EvaluationProtocol

    return EvaluationProtocol()


def test_a_cell_without_a_record_is_missing(ledger, cell):
    assert ledger.record(cell.id) is None
    assert ledger.records() == []


def test_a_trial_is_followed_from_start_to_end(ledger, cell):
    observer: Observer = ledger
    observer.trial_started(cell)
    assert ledger.record(cell.id).status == "running"
    observer.trial_reported(cell, 1, {"train/loss": 2.0})
    observer.trial_reported(cell, 2, {"train/loss": 1.0, "val/clean_r1": 0.5})
    observer.trial_finished(cell, {"train/loss": 1.0, "val/clean_r1": 0.5}, stopped_early=False)
    record = ledger.record(cell.id)
    assert (record.status, record.settled) == ("done", True)
    assert record.config["adapter"]["rank"] == 4
    assert [entry["epoch"] for entry in record.history] == [1, 2]
    assert record.metrics == {"train/loss": 1.0, "val/clean_r1": 0.5}
    assert record.ended >= record.began > 0


def test_what_cannot_be_trusted_is_noted(ledger, cell):
    ledger.trial_finished(cell, {"val/clean_r1": 0.5}, stopped_early=False, unreliable="monotone: no")
    assert ledger.record(cell.id).unreliable == "monotone: no"
    assert ledger.record(cell.id).settled


def test_a_record_survives_a_new_process(ledger, cell, tmp_path):
    ledger.trial_reported(cell, 1, {"train/loss": 2.0})
    ledger.trial_failed(cell, Failure("diverged", "loss nan"))
    assert Ledger(StudyFolder(tmp_path)).records() == ledger.records()
    assert ledger.record(cell.id).failure == Failure("diverged", "loss nan")


def test_an_interrupted_trial_goes_on_and_repeats_no_epoch(ledger, cell):
    ledger.trial_started(cell)
    ledger.trial_reported(cell, 1, {"train/loss": 2.0})
    ledger.trial_reported(cell, 2, {"train/loss": 9.0})
    ledger.trial_started(cell)
    ledger.trial_reported(cell, 2, {"train/loss": 1.0})
    assert [(entry["epoch"], entry["train/loss"]) for entry in ledger.record(cell.id).history] == [(1, 2.0), (2, 1.0)]


@pytest.mark.parametrize(
    ("kind", "settled"),
    [("diverged", True), ("out_of_memory", True), ("user_error", False), ("lost_worker", False), ("error", False)],
)
def test_only_failures_that_would_come_again_settle_a_cell(ledger, cell, kind, settled):
    ledger.trial_failed(cell, Failure(kind, "why"))
    assert ledger.record(cell.id).settled is settled


def test_a_trial_that_was_stopped_early_is_settled_but_not_done(ledger, cell):
    ledger.trial_reported(cell, 1, {"val/clean_r1": 0.5})
    ledger.trial_finished(cell, {"val/clean_r1": 0.5}, stopped_early=True)
    assert (ledger.record(cell.id).status, ledger.record(cell.id).settled) == ("stopped", True)


def test_records_are_plain_json_and_no_draft_is_left(ledger, cell, tmp_path):
    ledger.trial_started(cell)
    files = list(StudyFolder(tmp_path).ledger.iterdir())
    assert [file.name for file in files] == [f"{cell.id}.json"]
    assert json.loads(files[0].read_text())["arm"] == "LoRA"
