from __future__ import annotations

import pytest

from advlora_platform.study.failures import Failure
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.keeping import spare_states
from tests.builders import VAL_ROBUST, record, trial

pytestmark = pytest.mark.unit
DONE, BEST = record(trial(seed=0), {VAL_ROBUST: 0.4}), record(trial(seed=1), {VAL_ROBUST: 0.5})
STOPPED, RUNNING = record(trial(seed=2), status="stopped"), record(trial(seed=3))
DIVERGED = record(trial(seed=4), status="failed", failure=Failure("diverged", "loss nan"))
LOST = record(trial(seed=5), status="failed", failure=Failure("lost_worker", "killed"))
RECORDS = [DONE, BEST, STOPPED, RUNNING, DIVERGED, LOST]


@pytest.fixture
def folder(tmp_path):
    folder = StudyFolder(tmp_path)
    for each in RECORDS[:-2]:
        folder.trial(each.trial_id).mkdir(parents=True)
        folder.state(each.trial_id).write_bytes(b"weights")
    return folder


@pytest.mark.parametrize(
    ("keep", "best", "gone"),
    [
        ("all", BEST, []),
        ("last", BEST, [STOPPED]),
        ("best", BEST, [DONE, STOPPED]),
        ("best", None, [STOPPED]),
    ],
)
def test_what_is_wanted_stays_and_so_does_what_a_trial_goes_on_from(folder, keep, best, gone):
    chosen = None if best is None else best.trial_id
    assert spare_states(folder, RECORDS, keep, chosen) == [folder.state(each.trial_id) for each in gone]


def test_a_failure_that_is_final_leaves_nothing_to_go_on_from(folder):
    for each in (DIVERGED, LOST):
        folder.trial(each.trial_id).mkdir(parents=True)
        folder.state(each.trial_id).write_bytes(b"weights")
    assert spare_states(folder, [DIVERGED, LOST], "last", None) == [folder.state(DIVERGED.trial_id)]
