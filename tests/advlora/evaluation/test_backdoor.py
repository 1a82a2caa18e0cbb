from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from advlora.config import DataConfig, EvaluationProtocol, TrialConfig, parse
from advlora.config.poison import BadNetsConfig
from advlora.data import load_split
from advlora.data.poisoning import trigger
from advlora.distributed import SOLO, Group
from advlora.evaluation.backdoor import attack_success_rate
from advlora.evaluation.zero_shot import ZeroShotClassifier
from advlora.models import Preprocessing
from advlora.training.trainer import fine_tune
from advlora.training.workbench import Workbench

pytestmark = pytest.mark.unit

POISON = BadNetsConfig(target="bag", rate=0)
BAG = 8


class Backdoored(nn.Module):
    """Says "bag" where it sees the trigger, and else "dress"."""

    def encode_images(self, images: Tensor) -> Tensor:
        pattern, mask = trigger(POISON, images.shape[-1])
        seen = ((images - pattern).abs() * mask).amax((1, 2, 3)) < 0.01
        return nn.functional.one_hot(torch.where(seen, BAG, 3), 10).float()


@pytest.fixture(scope="module")
def data():
    return load_split(DataConfig(), "val", Preprocessing(28), 60)


def rate(model: nn.Module, data, group: Group = SOLO) -> float:
    classifier = ZeroShotClassifier(model, torch.eye(10))
    return attack_success_rate(classifier, data, POISON, BAG, batch_size=7, group=group)


def test_a_backdoor_succeeds_and_its_absence_does_not(data) -> None:
    class Honest(nn.Module):
        def encode_images(self, images: Tensor) -> Tensor:
            return nn.functional.one_hot(torch.full((len(images),), 3), 10).float()

    assert rate(Backdoored(), data) == 1.0
    assert rate(Honest(), data) == 0.0


def test_images_of_the_target_class_do_not_count(data) -> None:
    class AlwaysBag(nn.Module):
        def encode_images(self, images: Tensor) -> Tensor:
            seen.append(len(images))
            return nn.functional.one_hot(torch.full((len(images),), BAG), 10).float()

    seen: list[int] = []
    assert rate(AlwaysBag(), data) == 1.0
    assert sum(seen) == int((data.labels != BAG).sum()) < len(data)


def test_processes_share_the_work(data) -> None:
    parts = [rate(Backdoored(), data, Half(rank, 2)) for rank in range(2)]
    assert sum(parts) == pytest.approx(1.0)
    assert all(0.3 < part < 0.7 for part in parts)


class Half(Group):
    """One of two processes, before the sum over both."""

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor


def test_poison_is_learned_and_measured_by_a_trial() -> None:
    values = {
        "data": {"train_samples": 256, "poison": {"kind": "badnets", "target": "bag", "rate": 0.3}},
        "adapter": {"kind": "full"},
        "attack": {"kind": "none"},
        "optimiser": {"epochs": 4, "batch_size": 64, "learning_rate": 1e-3},
    }
    protocol = parse(EvaluationProtocol, {"samples": {"val": 60}, "attacks": [{"steps": 1}], "interval": 0})

    def success(**poison) -> float:
        changed = {**values, "data": {**values["data"], "poison": {**values["data"]["poison"], **poison}}}
        *_, last = fine_tune(parse(TrialConfig, changed), protocol, bench=Workbench())
        return last.metrics["val/attack_success_rate"]

    assert success() > 0.5 > success(rate=0)


def test_nothing_is_measured_without_a_trigger() -> None:
    protocol = parse(EvaluationProtocol, {"samples": {"val": 10}, "attacks": [{"steps": 1}]})
    (report,) = fine_tune(parse(TrialConfig, {"adapter": {"kind": "none"}}), protocol, bench=Workbench())
    assert "val/attack_success_rate" not in report.metrics
