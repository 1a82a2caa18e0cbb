"""An exported adapter is the trained function wherever it loads, and elsewhere it does not load."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import open_clip
import pytest
import torch
from peft import PeftModel
from torch import Tensor

from advlora.adapters import AdaptedModel, adapt, save_trained
from advlora.adapters.readme import name_of_base, write_twin_readme
from advlora.config import ModelConfig
from advlora.models import load_model
from tests.advlora.short_trials import adapter

pytestmark = pytest.mark.unit


def lines(folder: Path) -> str:
    """Returns the lines of Python in the README.md of a folder."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    return code


@pytest.fixture
def loaded(monkeypatch):
    """Runs the lines of a folder's README.md, in it, and returns their `model`."""

    def loaded(folder: Path):
        monkeypatch.chdir(folder)
        names: dict = {}
        exec(lines(folder), names)
        return names["model"]

    return loaded


def moved(base: ModelConfig, **values) -> AdaptedModel:
    """Returns an adapted model away from its start."""
    adapted = adapt(load_model(base), adapter(**values), 0)
    noise = torch.Generator().manual_seed(1)
    for parameter in adapted.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=noise)
    return adapted


def saved(base: ModelConfig, folder: Path, **values) -> tuple[AdaptedModel, Tensor]:
    adapted = moved(base, **values)
    size = adapted.model.image_size
    images = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(2))
    save_trained(adapted, base, adapted.config, folder, images)
    return adapted, images


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("target", ["all-linear", "attention-qv"])
def test_a_fused_model_refuses_the_adapter(make, train, base, images, tmp_path: Path, target: str) -> None:
    adapted = train(make(target=target))
    save_trained(adapted, base, adapted.config, tmp_path, images)
    stock = open_clip.create_model(base.name).eval()
    with pytest.raises(ValueError, match="split_attention"):
        PeftModel.from_pretrained(stock.visual, str(tmp_path / "adapter"))


def test_an_adapter_beside_the_attention_loads_on_the_fused_model(make, train, base, images, tmp_path: Path) -> None:
    adapted = train(make(target="mlp"))
    save_trained(adapted, base, adapted.config, tmp_path, images)
    stock = open_clip.create_model(base.name).eval()
    close(PeftModel.from_pretrained(stock.visual, str(tmp_path / "adapter"))((images - 0.5) / 0.5),
          adapted.model.encode_images(images))  # fmt: skip


@pytest.mark.parametrize("values", [{}, {"kind": "dora"}, {"target": "mlp"}], ids=str)
def test_lines_load_what_was_trained(loaded, tmp_path: Path, values: dict) -> None:
    adapted, images = saved(ModelConfig(), tmp_path, **values)
    expected = adapted.model.encode_images(images)
    assert (expected - load_model(ModelConfig()).encode_images(images)).abs().max() > 0.01
    close(loaded(tmp_path / "adapter").encode_images(images), expected)
    normalised = (images - adapted.model.mean) / adapted.model.std
    close(loaded(tmp_path / "adapter-transformers").get_image_features(normalised).pooler_output, expected)


def test_both_towers_are_one_adapter_of_transformers(loaded, tmp_path: Path) -> None:
    adapted, images = saved(ModelConfig(), tmp_path, tower="both")
    both = loaded(tmp_path / "adapter-transformers")
    normalised = (images - adapted.model.mean) / adapted.model.std
    close(both.get_image_features(normalised).pooler_output, adapted.model.encode_images(images))
    words = ["a dress"]
    expected = adapted.model.encode_texts(words)
    close(both.get_text_features(adapted.model.tokenizer(words)).pooler_output, expected)
    close(loaded(tmp_path / "adapter-text").encode_texts(words), expected)


@pytest.mark.parametrize("family", ["clip", "blip"])
def test_adapters_of_transformers_need_nothing_of_ours(tiny, loaded, tmp_path: Path, family: str) -> None:
    adapted, images = saved(tiny(family), tmp_path)
    assert "advlora" not in lines(tmp_path / "adapter")
    twin = load_model(tiny(family), split=False)
    twin.net = loaded(tmp_path / "adapter").base_model.model
    close(twin.encode_images(images), adapted.model.encode_images(images))
    assert not (tmp_path / "adapter-transformers").exists()


def test_files_are_as_readable_as_others(make, base, images, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_trained(make(), base, adapter(), tmp_path, images)
    finally:
        os.umask(before)
    assert {oct(file.stat().st_mode & 0o777) for file in tmp_path.rglob("*") if file.is_file()} == {"0o640"}


def test_base_and_rank_are_named(make, base, images, tmp_path: Path) -> None:
    save_trained(make(), base, adapter(), tmp_path, images)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == base.name.removeprefix("local-dir:")
    text = (tmp_path / "adapter" / "README.md").read_text()
    assert f"Rank {config['r']} where {adapter().rank} was trained" in text
    save_trained(make(init="gaussian", alignment={"enabled": False}), base, adapter(), tmp_path / "lora", images)
    assert "was trained\n" not in (tmp_path / "lora" / "adapter" / "README.md").read_text()


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({}, "tiny-clip"),
        ({"source": "open_clip", "name": "ViT-B-32", "pretrained": "laion2b"}, "ViT-B-32:laion2b"),
        ({"source": "open_clip", "name": "hf-hub:timm/vit"}, "timm/vit"),
        ({"source": "transformers", "name": "openai/clip", "pretrained": "main"}, "openai/clip"),
    ],
)
def test_names_of_bases(keys: dict, name: str) -> None:
    assert name_of_base(ModelConfig(**keys)) == name


def test_known_twin_is_loaded_from_the_hub(make, base, images, tmp_path: Path) -> None:
    save_trained(make(), base, adapter(), tmp_path, images)
    openai = ModelConfig(source="open_clip", name="ViT-B-32-quickgelu", pretrained="openai")
    write_twin_readme(tmp_path / "adapter-transformers", openai, 4)
    assert 'CLIPModel.from_pretrained("openai/clip-vit-base-patch32")' in lines(tmp_path / "adapter-transformers")
