from __future__ import annotations

import copy
import json
from pathlib import Path

import open_clip
import pytest
import torch
import transformers

from advlora.config import ModelConfig
from advlora.errors import ModelError
from advlora.models import as_transformers, load_model
from advlora.models.open_clip import OpenClipModel, settings_of
from advlora.models.twin import OPENAI, hub_twin, twin_name, twin_of

pytestmark = pytest.mark.unit
PREPROCESS = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
VISION = {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 12, "vocab_size": 40, "width": 16, "heads": 2, "layers": 1}


class Words:
    """Maps captions to ids in [1, 39], the end of text last and largest, padded by 0."""

    def __call__(self, captions: list[str]) -> torch.Tensor:
        rows = [[*(1 + len(word) for word in caption.split()), 39] for caption in captions]
        return torch.tensor([row + [0] * (12 - len(row)) for row in rows])


def model(custom: bool = False, tokenizer: Words | None = None, vision=None, **settings) -> OpenClipModel:
    config = {"embed_dim": 24, "vision_cfg": {**VISION, **(vision or {})}, "text_cfg": TEXT, **settings}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        clip = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config).eval()
        for parameter in clip.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return OpenClipModel(clip, tokenizer or Words(), {"model_cfg": config, "preprocess_cfg": PREPROCESS})


@pytest.mark.parametrize("settings", [{}, {"quick_gelu": True}, {"custom": True}], ids=str)
def test_twin_embeds_images_and_captions_alike(settings):
    original = model(**settings)
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    before = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    twin = twin_of(original)
    torch.testing.assert_close(twin.encode_images(images), original.encode_images(images), atol=1e-5, rtol=0)
    captions = ["a photo of a boot", "dress"]
    torch.testing.assert_close(twin.encode_texts(captions), original.encode_texts(captions), atol=1e-5, rtol=0)
    assert float(twin.net.logit_scale.exp()) == pytest.approx(float(original.logit_scale))
    assert all(torch.equal(tensor, original.state_dict()[name]) for name, tensor in before.items())


def test_activation_is_part_of_the_function():
    gelu, quick = (as_transformers(model(quick_gelu=quick)) for quick in (False, True))
    assert (gelu.config.vision_config.hidden_act, quick.config.text_config.hidden_act) == ("gelu", "quick_gelu")


@pytest.mark.parametrize(
    "vision", [{"ls_init_value": 0.1}, {"no_ln_pre": True}, {"attentional_pool": True}, {"pool_type": "avg"}], ids=str
)
def test_other_architectures_have_no_twin(vision):
    assert twin_of(model(vision=vision)) is None
    with pytest.raises(ModelError, match="CLIPModel has no architecture"):
        as_transformers(model(vision=vision))


def test_a_model_of_another_library_has_no_twin(tiny):
    assert twin_of(load_model(tiny("clip"))) is None


def test_twin_is_written_and_read_by_transformers_alone(tmp_path: Path):
    net = as_transformers(load_model(ModelConfig()))
    net.save_pretrained(tmp_path)
    again = transformers.CLIPModel.from_pretrained(tmp_path).eval()
    pixels = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    expected = copy.deepcopy(net).get_image_features(pixels).pooler_output
    assert torch.equal(again.get_image_features(pixels).pooler_output, expected)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "clip"


def test_names():
    assert twin_name("visual.transformer.resblocks.3.attn.q_proj") == "vision_model.encoder.layers.3.self_attn.q_proj"
    assert twin_name("transformer.resblocks.0.mlp.c_fc") == "text_model.encoder.layers.0.mlp.fc1"


@pytest.mark.parametrize("name", OPENAI)
def test_known_twins_on_the_hub_are_weights_of_open_clip(name):
    assert settings_of(name)["quick_gelu"]
    assert "openai" in open_clip.list_pretrained_tags_by_model(name)
    assert hub_twin(ModelConfig(source="open_clip", name=name, pretrained="openai")) == OPENAI[name]
    assert hub_twin(ModelConfig(source="open_clip", name=name, pretrained="laion2b")) is None
