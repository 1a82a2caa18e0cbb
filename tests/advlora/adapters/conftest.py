"""A tiny random model, and a cheap way to train an adapter on it for a few steps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor

from advlora.adapters import AdaptedModel, adapt
from advlora.config import ModelConfig
from advlora.models import VisionLanguageModel, load_model
from advlora.models.open_clip import OpenClipModel
from tests.advlora.short_trials import adapter

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
PREPROCESS = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    folder = tmp_path_factory.mktemp("tiny")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        clip = open_clip.CLIP(**TINY)
        for parameter in clip.visual.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    OpenClipModel(clip, None, {"model_cfg": TINY, "preprocess_cfg": PREPROCESS}).save(folder)
    return ModelConfig(source="open_clip", name=f"local-dir:{folder}")


@pytest.fixture(scope="session")
def pretrained(base: ModelConfig) -> VisionLanguageModel:
    return load_model(base)


@pytest.fixture(scope="session")
def images() -> Tensor:
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="session")
def make(pretrained: VisionLanguageModel) -> Callable[..., AdaptedModel]:
    def make(seed: int = 0, cache_dir: Path | None = None, **values) -> AdaptedModel:
        return adapt(copy.deepcopy(pretrained), adapter(**values), seed, cache_dir)

    return make


@pytest.fixture(scope="session")
def train(images: Tensor) -> Callable[[AdaptedModel], AdaptedModel]:
    def train(adapted: AdaptedModel, steps: int = 4) -> AdaptedModel:
        optimiser = torch.optim.Adam(adapted.parameters(), lr=0.02)
        for _ in range(steps):
            loss = adapted.model.encode_images(images).square().mean()
            penalty = adapted.penalty()
            optimiser.zero_grad()
            (loss if penalty is None else loss + penalty).backward()
            optimiser.step()
        return adapted

    return train
