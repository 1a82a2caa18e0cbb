"""The variant under PEFT's own machinery."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor

from advlora.adapters.variant import AdvLoraConfig, AdvLoraLinear
from advlora.models import VisionLanguageModel
from tests.advlora.short_trials import adapter

pytestmark = pytest.mark.unit

RECIPES = {
    "default": {},
    "per rank": {"adaptive": {"per": "rank", "initial": 0.5}, "alpha": 8},
    "pissa": {"init": "pissa", "alignment": {"enabled": False}},
    "fixed alpha": {"adaptive": {"enabled": False}, "init": {"clusters": 6}},
}


@pytest.fixture(params=RECIPES)
def config(request: pytest.FixtureRequest) -> AdvLoraConfig:
    return AdvLoraConfig.of(adapter(**RECIPES[request.param]), ["q_proj", "c_fc", "c_proj"], seed=0)


@pytest.fixture
def trained(config: AdvLoraConfig, pretrained: VisionLanguageModel, images: Tensor) -> PeftModel:
    model = get_peft_model(copy.deepcopy(pretrained.vision), config)
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    for _ in range(4):
        optimiser.zero_grad()
        model(images).square().mean().backward()
        optimiser.step()
    return model.eval()


Close = Callable[[Tensor, Tensor], None]


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=0)


def test_training_changes_the_function(trained: PeftModel, pretrained: VisionLanguageModel, images: Tensor) -> None:
    assert (trained(images) - pretrained.vision(images)).abs().max() > 0.05


def test_merge_and_unmerge(trained: PeftModel, images: Tensor) -> None:
    expected = trained(images)
    trained.merge_adapter()
    assert all(layer.merged for layer in trained.modules() if isinstance(layer, AdvLoraLinear))
    close(trained(images), expected)
    trained.unmerge_adapter()
    close(trained(images), expected)


@pytest.mark.parametrize("safe", [True, False])
def test_merge_and_unload(trained: PeftModel, images: Tensor, safe: bool) -> None:
    expected = trained(images)
    merged = trained.merge_and_unload(safe_merge=safe)
    assert not any(isinstance(layer, AdvLoraLinear) for layer in merged.modules())
    close(merged(images), expected)


@pytest.mark.parametrize("low_cpu_mem_usage", [True, False])
def test_native_save_and_load(
    trained: PeftModel, pretrained: VisionLanguageModel, images: Tensor, tmp_path: Path, low_cpu_mem_usage: bool
) -> None:
    trained.save_pretrained(tmp_path)
    config = AdvLoraConfig.from_pretrained(str(tmp_path))
    assert isinstance(config, AdvLoraConfig)
    again = PeftModel.from_pretrained(
        copy.deepcopy(pretrained.vision), tmp_path, config=config, low_cpu_mem_usage=low_cpu_mem_usage
    )
    assert torch.equal(again.eval()(images), trained(images))


def test_only_lora_parameters_are_trained(trained: PeftModel) -> None:
    names = [name for name, parameter in trained.named_parameters() if parameter.requires_grad]
    assert names
    assert all(".lora_" in name for name in names)


def test_bf16_autocast_runs_forward_and_backward(config: AdvLoraConfig, pretrained, images: Tensor) -> None:
    model = get_peft_model(copy.deepcopy(pretrained.vision), config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = model(images)
    torch.testing.assert_close(features.float(), pretrained.vision(images), atol=0.1, rtol=0.1)
    features.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
