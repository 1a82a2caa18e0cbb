from __future__ import annotations

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
