from __future__ import annotations

import copy
import json
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from advlora.adapters import adapt, save_trained
from advlora.config import LoraAdapter, ModelConfig
from advlora.models import linear_shapes, load_for_adapter, load_model
from advlora.models.attention import SplitProjection, fused_state_dict, split_attention

pytestmark = pytest.mark.unit

SETTINGS = {
    "embed_dim": 24,
    "vision_cfg": {
        "timm_model_name": "test_vit",
        "timm_model_pretrained": False,
        "timm_pool": "token",
        "timm_proj": "linear",
        "image_size": 160,
    },
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    "custom_text": True,
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    folder: Path = tmp_path_factory.mktemp("timm")
    values = {"model_cfg": SETTINGS, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(values))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file({name: value.clone() for name, value in clip.state_dict().items()}, folder / "model.safetensors")
    return ModelConfig(source="open_clip", name=f"local-dir:{folder}")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))


def test_the_tower_is_split_and_keeps_its_function(config: ModelConfig, images: torch.Tensor) -> None:
    stock = open_clip.create_model(config.name).eval()
    model = load_model(config)
    assert any(isinstance(layer, SplitProjection) for layer in model.vision.modules())
    torch.testing.assert_close(
        model.encode_images(images), stock.encode_image((images - 0.5) / 0.5), atol=1e-4, rtol=1e-4
    )
    assert not any(isinstance(layer, SplitProjection) for layer in load_for_adapter(config).modules())


def test_roles_name_its_layers(config: ModelConfig) -> None:
    shapes = linear_shapes(config, "all-linear")
    assert [name.removeprefix("trunk.blocks.0.") for name in shapes][:6] == [
        "attn.qkv.q_proj", "attn.qkv.k_proj", "attn.qkv.v_proj", "attn.proj", "mlp.fc1", "mlp.fc2",
    ]  # fmt: skip
    vision = load_model(config).vision
    assert all(vision.get_submodule(name).weight.shape == shape for name, shape in shapes.items())
    assert len(linear_shapes(config, "mlp", "text")) == 2


def test_saving_maps_back(config: ModelConfig, tmp_path: Path) -> None:
    load_model(config).save(tmp_path)
    stock, again = open_clip.create_model(config.name), open_clip.create_model(f"local-dir:{tmp_path}")
    assert all(torch.equal(value, stock.state_dict()[name]) for name, value in again.state_dict().items())


def test_an_adapter_is_exported_for_the_fused_projection(config: ModelConfig, images, tmp_path: Path) -> None:
    adapted = adapt(load_model(config), LoraAdapter(rank=2), 0)
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    paths = save_trained(adapted, config, adapted.config, tmp_path, images)
    assert set(paths) == {"merged", "adapter"}
    tensors = load_file(paths["adapter"] / "adapter_model.safetensors")
    fused = {name: value.shape[0] for name, value in tensors.items() if name.endswith("attn.qkv.lora_A.weight")}
    assert set(fused.values()) == {3 * 2 * 2}


class Attention(nn.Module):
    def __init__(self, outputs: int = 24, bias: torch.Tensor | None = None) -> None:
        super().__init__()
        self.qkv, self.q_bias = nn.Linear(8, outputs), bias


def test_a_projection_of_three_is_split_and_fused_again() -> None:
    module = Attention()
    split = split_attention(copy.deepcopy(module))
    x = torch.randn(3, 8)
    torch.testing.assert_close(split.qkv(x), module.qkv(x))
    state = fused_state_dict(split)
    assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize("module", [Attention(outputs=16), Attention(bias=torch.zeros(8))])
def test_layers_that_are_no_plain_projection_of_three_stay(module: nn.Module) -> None:
    assert type(split_attention(module).qkv) is nn.Linear
