from __future__ import annotations

import copy
import json
from pathlib import Path

import open_clip
import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from advlora.adapters import ExportError, adapt, load_adapter, load_trained, save_trained
from advlora.adapters import trained as module
from advlora.adapters.export import export_adapter, verify
from advlora.adapters.trained import TrainedRecord
from advlora.config import LoraAdapter, ModelConfig, parse
from advlora.errors import ModelError
from advlora.models import SplitTower, VisionLanguageModel, load_model

pytestmark = pytest.mark.unit

RECIPES = {
    "default": {},
    "per rank": {"adaptive": {"per": "rank", "initial": 0.5}, "alpha": 8, "target": "attention"},
    "lora": {"init": "gaussian", "alignment": {"enabled": False}, "adaptive": {"enabled": False}},
    "gaussian with alpha": {"init": "gaussian", "alignment": {"enabled": False}},
    "milora": {"init": "milora"},
}


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=5e-5, rtol=0)


@pytest.mark.parametrize("recipe", RECIPES)
def test_adapter_loads_in_stock_peft(
    make, train, base: ModelConfig, pretrained, images: Tensor, tmp_path: Path, recipe: str
) -> None:
    adapted = train(make(**RECIPES[recipe]))
    expected = adapted.model.encode_images(images)
    assert (expected - pretrained.encode_images(images)).abs().max() > 0.05
    export_adapter(adapted, tmp_path)
    assert type(PeftConfig.from_pretrained(str(tmp_path))) is LoraConfig
    stock = PeftModel.from_pretrained(SplitTower(load_model(base).vision), str(tmp_path))
    close(stock((images - 0.5) / 0.5), expected)
    with stock.disable_adapter():
        assert torch.equal(stock((images - 0.5) / 0.5), pretrained.encode_images(images))


@pytest.mark.parametrize(("recipe", "rank"), [("default", 8), ("lora", 4), ("gaussian with alpha", 4)])
def test_rank_doubles_only_for_a_start_that_is_not_zero(make, tmp_path: Path, recipe: str, rank: int) -> None:
    export_adapter(make(**RECIPES[recipe]), tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == rank
    assert {min(value.shape) for value in load_file(tmp_path / "adapter_model.safetensors").values()} == {rank}


@pytest.mark.parametrize("values", [*({"kind": kind} for kind in ("full", "linear_probe", "none")), RECIPES["default"]])
def test_merged_loads_in_stock_open_clip(
    make, train, base: ModelConfig, images: Tensor, tmp_path: Path, values: dict
) -> None:
    adapted = make(**values)
    if adapted.parameters():
        train(adapted)
    expected = adapted.model.encode_images(images)
    paths = save_trained(adapted, base, adapted.config, tmp_path, images)
    assert set(paths) == ({"merged", "adapter", "adapter-transformers"} if adapted.layers else {"merged"})
    stock = open_clip.create_model(f"local-dir:{paths['merged']}").eval()
    assert any(isinstance(layer, torch.nn.MultiheadAttention) for layer in stock.visual.modules())
    close(stock.encode_image((images - 0.5) / 0.5), expected)
    assert torch.equal(adapted.model.encode_images(images), expected)


def test_record_says_what_was_trained_and_how_exact(make, train, base, images: Tensor, tmp_path: Path) -> None:
    adapted = train(make())
    save_trained(adapted, base, adapted.config, tmp_path, images)
    record = parse(TrainedRecord, json.loads((tmp_path / "trained.json").read_text()))
    assert (record.base, record.adapter) == (base, adapted.config)
    assert set(record.export_errors) == {"merged", "adapter", "adapter-transformers"}
    assert all(error <= 1e-4 for errors in record.export_errors.values() for error in errors.values())


def test_trained_model_is_loaded_either_way(make, train, base, images: Tensor, tmp_path: Path) -> None:
    adapted = train(make())
    paths = save_trained(adapted, base, adapted.config, tmp_path, images)
    model, config = load_trained(tmp_path)
    close(model.encode_images(images), adapted.model.encode_images(images))
    assert config.name == f"local-dir:{paths['merged']}"
    assert torch.equal(load_model(config).encode_texts(["a"]), adapted.model.encode_texts(["a"]))
    paths["merged"].rename(tmp_path / "elsewhere")
    model, config = load_trained(tmp_path)
    close(model.encode_images(images), adapted.model.encode_images(images))
    assert config == base


def test_embedded_model_is_exported_with_its_tokenizer(train, tmp_path: Path) -> None:
    base = ModelConfig()
    model = load_model(base)
    pixels = torch.rand(4, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(0))
    adapted = adapt(copy.deepcopy(model), LoraAdapter(), 0)
    save_trained(adapted, base, adapted.config, tmp_path, pixels)
    assert torch.equal(load_trained(tmp_path)[0].encode_texts(["a dress"]), model.encode_texts(["a dress"]))


def test_training_mode_survives_the_export(make, base, images: Tensor, tmp_path: Path) -> None:
    adapted = make(dropout=0.5)
    adapted.model.train()
    save_trained(adapted, base, adapted.config, tmp_path, images)
    assert adapted.model.training
    assert not any(layer.merged for layer in adapted.layers.values())


def test_wrong_export_is_not_let_through(make, train, base, images: Tensor, tmp_path: Path, monkeypatch) -> None:
    adapted = train(make())

    def damaged(adapted_model, folder: Path, tower: str, base: ModelConfig) -> None:
        export_adapter(adapted_model, folder, tower, base)
        file = folder / "adapter_model.safetensors"
        tensors = load_file(file)
        save_file({name: value * 1.01 for name, value in tensors.items()}, file)

    monkeypatch.setattr(module, "export_adapter", damaged)
    with pytest.raises(ExportError, match="adapter export differs"):
        save_trained(adapted, base, adapted.config, tmp_path, images)
    assert not (tmp_path / "trained.json").exists()


def test_verification_refuses_nan(make, pretrained: VisionLanguageModel, images: Tensor) -> None:
    adapted = make(kind="full")
    adapted.model.vision.get_parameter("proj").data[0, 0] = float("nan")
    with pytest.raises(ExportError):
        verify("merged", pretrained, adapted, images)


def test_no_adapter_without_low_rank_factors(make, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'full' has no low-rank factors"):
        export_adapter(make(kind="full"), tmp_path)


def test_unreadable_folders(make, base: ModelConfig, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no readable trained\.json"):
        load_trained(tmp_path)
    (tmp_path / "trained.json").write_text("[]")
    with pytest.raises(ModelError, match=r"no readable trained\.json"):
        load_trained(tmp_path)
    with pytest.raises(ModelError, match=r"no adapter_config\.json"):
        load_adapter(base, tmp_path)
    export_adapter(make(), tmp_path)
    with pytest.raises(ModelError, match="does not fit model 'tiny-clip'"):
        load_adapter(ModelConfig(), tmp_path)
