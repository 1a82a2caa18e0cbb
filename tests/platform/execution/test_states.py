from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from advlora.config import EvaluationProtocol, GuardConfig, SamplesConfig, TrialConfig, parse
from advlora.errors import UserError
from advlora.training.trainer import fine_tune
from advlora.training.workbench import Workbench
from advlora_platform.execution.states import load_state, rebuild, save_state

pytestmark = pytest.mark.unit

CONFIG = parse(TrialConfig, {"data": {"train_samples": 64}, "optimiser": {"epochs": 1}, "attack": {"steps": 1}})
PROTOCOL = EvaluationProtocol(samples=SamplesConfig(val=16), interval=0, guards=GuardConfig(enabled=False))


def test_a_state_is_replaced_in_one_step_and_read_without_running_code(tmp_path):
    assert load_state(tmp_path) is None
    save_state(tmp_path / "trial", {"epoch": 1, "adapter": {"a": torch.ones(2)}})
    save_state(tmp_path / "trial", {"epoch": 2, "adapter": {"a": torch.zeros(2)}})
    state = load_state(tmp_path / "trial")
    assert state["epoch"] == 2
    assert state["adapter"]["a"].tolist() == [0, 0]
    assert [file.name for file in (tmp_path / "trial").iterdir()] == ["state.pt"]


def test_a_state_is_on_disk_before_it_takes_the_place_of_the_last_one(tmp_path, monkeypatch):
    events, flush, rename = [], os.fsync, Path.replace

    def note_flush(handle):
        events.append(("flush", os.fstat(handle).st_ino))
        flush(handle)

    def note_rename(draft, target):
        events.append(("rename", draft.stat().st_ino))
        return rename(draft, target)

    monkeypatch.setattr(os, "fsync", note_flush)
    monkeypatch.setattr(Path, "replace", note_rename)
    save_state(tmp_path, {"epoch": 1})
    state, folder = (tmp_path / "state.pt").stat().st_ino, tmp_path.stat().st_ino
    assert events == [("flush", state), ("rename", state), ("flush", folder)]


def whole() -> bytes:
    buffer = io.BytesIO()
    torch.save({"epoch": 1, "adapter": {"a": torch.randn(64, 64)}}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: bytes(len(content)),
        lambda content: b"garbage" * 1000,
        lambda content: content[:1000] + b"\xff" * 100 + content[1100:],
    ],
    ids=["empty", "half", "one byte short", "zeros", "garbage", "overwritten"],
)
def test_a_damaged_state_is_set_aside_and_the_trial_begins_again(tmp_path, caplog, damage):
    (tmp_path / "state.pt").write_bytes(damage(whole()))
    assert load_state(tmp_path) is None
    (line,) = caplog.messages
    assert re.match(r".*/state\.pt is damaged; it is set aside, and the trial begins at its first epoch", line)
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt.damaged"]
    save_state(tmp_path, {"epoch": 1})
    assert load_state(tmp_path) == {"epoch": 1}


def test_a_state_that_cannot_be_read_just_now_is_not_set_aside(tmp_path):
    (tmp_path / "state.pt").mkdir()  # any error of the storage would do
    with pytest.raises(OSError, match="directory"):
        load_state(tmp_path)
    assert (tmp_path / "state.pt").exists()


KILLED = """
import os, signal, sys, time
from pathlib import Path
import torch
from advlora_platform.execution.states import load_state, save_state

folder, drafts = Path(sys.argv[1]), 0
for kill in range(6):
    begin = (load_state(folder) or {"epoch": 0})["epoch"]
    if (child := os.fork()) == 0:
        for epoch in range(begin + 1, begin + 10_000):
            save_state(folder, {"epoch": epoch, "adapter": {"a": torch.full((300, 1000), float(epoch))}})
        os._exit(1)
    time.sleep(0.05 + 0.03 * kill)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    drafts += len(list(folder.glob("*.tmp")))
    state = load_state(folder)
    if state is not None:
        assert state["epoch"] >= begin
        assert state["adapter"]["a"].unique().tolist() == [state["epoch"]]
assert not list(folder.glob("*.damaged"))
assert state is not None
save_state(folder, {"epoch": 0})
print(drafts, *sorted(file.name for file in folder.iterdir()))
"""


def test_a_worker_killed_while_it_saves_leaves_a_whole_state_and_in_the_end_nothing_else(tmp_path):
    answer = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    drafts, *files = answer.stdout.split()
    assert int(drafts) > 0, "no kill hit a save, so that nothing was tested"
    assert files == ["state.pt"]


def test_the_trained_model_is_rebuilt_bit_for_bit(tmp_path):
    (report,) = fine_tune(CONFIG, PROTOCOL, bench=Workbench())
    save_state(tmp_path, report.state)
    trained, images = rebuild(CONFIG, tmp_path)
    assert images.shape[1:] == (3, 28, 28)
    for name, tensor in trained.state().items():
        assert torch.equal(tensor, report.state["adapter"][name])


def test_a_removed_state_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="was removed"):
        rebuild(CONFIG, tmp_path)
