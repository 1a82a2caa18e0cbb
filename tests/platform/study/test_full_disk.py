"""A disk that is really full: what was written stays, the file is named, and the study goes on when there is room."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import suppress

import pytest
import torch

from advlora_platform.execution.states import load_state, save_state
from advlora_platform.search.journal import Journal
from advlora_platform.study import Lease, Ledger, StudyFolder
from advlora_platform.study.failures import class_of, classify
from advlora_platform.study.outcomes import load_outcomes, save_outcomes
from tests.builders import VAL_ROBUST, factory, sweep, trial

pytestmark = [pytest.mark.unit, pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")]
TRIAL = trial()


class Disk:
    """A file system of 256 KiB in memory."""

    def __init__(self, place):
        self.folder, self._filler = StudyFolder(place), place / "filler"

    def fill(self):
        with suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while file.write(b"\0" * 512):
                pass

    def free(self):
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path):
    place = tmp_path / "full"
    place.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True, text=True, timeout=60
    )
    if mount.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mount.stderr.strip()}")
    yield Disk(place)
    subprocess.run(["umount", place], check=True, timeout=60)


def refused(write) -> str:
    """Returns the file that could not be written."""
    with pytest.raises(OSError, match="No space left") as error:
        write()
    assert error.value.errno == errno.ENOSPC
    return os.path.basename(error.value.filename)


def test_the_ledger_keeps_what_it_has_and_goes_on(disk):
    ledger = Ledger(disk.folder)
    ledger.trial_started(TRIAL)
    ledger.trial_reported(TRIAL, 1, {"train/loss": 2.0})
    disk.fill()
    long = {f"train/{number}": 0.5 for number in range(1000)}
    assert refused(lambda: ledger.trial_reported(TRIAL, 2, long)) == f"{TRIAL.id}.json"
    assert [entry["epoch"] for entry in ledger.record(TRIAL.id).history] == [1]
    disk.free()
    ledger.trial_reported(TRIAL, 2, {"train/loss": 1.0})
    assert [entry["epoch"] for entry in ledger.record(TRIAL.id).history] == [1, 2]
    assert not list(disk.folder.path.rglob("*.tmp"))


def test_a_checkpoint_and_outcomes_are_the_old_ones_and_the_study_stops(disk):
    folder = disk.folder.trial(TRIAL.id)
    save_state(folder, {"epoch": 1})
    save_outcomes(folder, {VAL_ROBUST: torch.tensor([True])})
    disk.fill()
    assert refused(lambda: save_outcomes(folder, {VAL_ROBUST: torch.rand(9000)})) == "outcomes.npz"
    with pytest.raises(OSError, match="No space left") as error:
        save_state(folder, {"epoch": 2, "weights": torch.rand(9000)})
    failure = classify(error.value)
    assert (failure.kind, class_of(failure).stops) == ("no_space", True)
    assert "state.pt" in failure.message
    assert load_state(folder) == {"epoch": 1}
    assert load_outcomes(folder)[VAL_ROBUST].tolist() == [True]


def test_the_journal_of_a_sweep_is_begun_anew_from_the_ledger(disk):
    study = sweep()
    journal = Journal(study, factory(study), disk.folder)
    attempt, _ = journal.ask((0, 0))
    disk.fill()
    assert "optuna-journal.log" in refused(lambda: [journal.report(attempt, n, {VAL_ROBUST: 0.5}) for n in range(999)])
    disk.free()
    again = Journal(study, factory(study), disk.folder)
    again.catch_up([])
    again.tell(again.ask((0, 0))[0], "done", {VAL_ROBUST: 0.5})


def test_nobody_drives_a_study_whose_lease_cannot_be_written(disk):
    disk.fill()
    assert refused(Lease(disk.folder).__enter__) == "lease.json"
    disk.free()
    with Lease(disk.folder) as lease:
        disk.fill()
        lease.check()
