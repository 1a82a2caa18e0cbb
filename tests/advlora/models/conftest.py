"""A tiny random open_clip model in a folder, written by open_clip and safetensors alone."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="session")
def stock() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        clip = open_clip.CLIP(**TINY).eval()
        for parameter in clip.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return clip


@pytest.fixture
def folder(stock: torch.nn.Module, tmp_path: Path) -> Path:
    preprocess = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    settings = {"model_cfg": TINY, "preprocess_cfg": preprocess}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(settings))
    save_file({name: value.clone() for name, value in stock.state_dict().items()}, tmp_path / "model.safetensors")
    return tmp_path
