"""`advlora clean`: what is removed, and what stays."""

from __future__ import annotations

import json

import pytest

from advlora_platform.study import Lease, Ledger
from tests.builders import ablation
from tests.platform.folders import run_made_up

pytestmark = pytest.mark.unit


@pytest.fixture
def left(tmp_path):
    """A finished study, as a driver that was killed at its end leaves it."""
    study = ablation(arms={"LoRA": {}, "full": {"adapter.kind": "full"}}, base={"data": {"train_samples": 64}})
    folder = run_made_up(study, tmp_path / "runs" / "parts", {"full": 1.0})
    for record in Ledger(folder).records():
        folder.state(record.trial_id).write_bytes(b"x" * 1000)
        (folder.trial(record.trial_id) / "state.pt.1f.tmp").write_bytes(b"x" * 10)
    tune = folder.ray / "tune" / "SoloSlot_1"
    tune.mkdir(parents=True)
    (tune / "result.json").write_bytes(b"x" * 100)
    folder.journal.with_name("optuna-journal.log.damaged").write_bytes(b"x")
    return folder


def states(folder):
    return [record.arm for record in Ledger(folder).records() if folder.state(record.trial_id).exists()]


def test_ray_drafts_and_damaged_files_go_and_trained_weights_stay(advlora, left):
    kept = {path for path in left.path.rglob("*") if path.name in {"study.yaml", "identity.json", "outcomes.npz"}}
    answer = advlora("clean", "parts")
    assert answer.code == 0, answer.err
    assert "100 bytes  files of Ray (1)" in answer.out
    assert "40 bytes  drafts of killed processes (4)" in answer.out
    assert "141 bytes  removed" in answer.out
    assert states(left) == ["LoRA", "LoRA", "full", "full"]
    assert not left.ray.exists()
    assert not list(left.path.rglob("*.tmp"))
    assert all(path.exists() for path in kept)
    assert json.loads(advlora("clean", "parts", "--json").out) == {"removed": True, "bytes": 0, "sorts": {}}


def test_a_dry_run_says_the_same_and_removes_nothing(advlora, left):
    before = sorted(left.path.rglob("*"))
    answer = advlora("clean", "parts", "--keep", "best", "--dry-run")
    assert "3,000 bytes  checkpoints beyond keep: best (3)" in answer.out
    assert "3,141 bytes  would be removed" in answer.out
    assert set(before) <= set(left.path.rglob("*"))


def test_the_best_trial_keeps_its_weights(advlora, left):
    assert advlora("clean", "parts", "--keep", "best").code == 0
    assert states(left) == ["full"]


def test_a_study_that_is_driven_is_left_alone(advlora, left):
    with Lease(left):
        answer = advlora("clean", "parts")
    assert answer.code == 2
    assert "drives the study in" in answer.err
    assert (left.ray / "tune").exists()
