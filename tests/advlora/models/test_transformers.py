from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor, nn

from advlora.config import ModelConfig
from advlora.errors import ModelError
from advlora.models import VisionLanguageModel, has_logit_bias, linear_shapes, load_for_adapter, load_model
from advlora.models.attention import SplitProjection

pytestmark = pytest.mark.unit

FAMILIES = {"clip": "CLIPModel", "siglip": "SiglipModel", "blip": "BlipForImageTextRetrieval"}
CAPTIONS = ["a photo of a cat", "the red dress on a dog on the boot", "dog"]


def folder(config: ModelConfig) -> Path:
    return Path(config.name.removeprefix("local-dir:"))


def stock(config: ModelConfig, family: str):
    return getattr(transformers, FAMILIES[family]).from_pretrained(folder(config)).eval()


def normalised(images: Tensor) -> Tensor:
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    return (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def tokens(config: ModelConfig, family: str):
    padding = {"padding": "max_length", "max_length": 12} if family == "siglip" else {"padding": True}
    found = transformers.AutoTokenizer.from_pretrained(folder(config))(CAPTIONS, return_tensors="pt", **padding)
    return {"input_ids": found["input_ids"]} | (
        {} if family == "siglip" else {"attention_mask": found["attention_mask"]}
    )


def reason(config: ModelConfig, call=load_model) -> str:
    with pytest.raises(ModelError) as raised:
        call(config)
    assert len(raised.value.problems) == 1
    return raised.value.problems[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_similarities_are_those_of_transformers(tiny, family: str) -> None:
    config = tiny(family)
    model, net = load_model(config), stock(config, family)
    images = torch.rand(2, 3, 16, 16)
    features = [nn.functional.normalize(x, dim=-1) for x in (model.encode_images(images), model.encode_texts(CAPTIONS))]
    cosine = features[0] @ features[1].T
    outputs = {"pixel_values": normalised(images), **tokens(config, family)}
    if family == "blip":
        expected = torch.stack([net(**outputs, use_itm_head=False).itm_score])[0]
        torch.testing.assert_close(cosine, expected, atol=1e-5, rtol=0)
    else:
        bias = 0 if model.logit_bias is None else model.logit_bias
        assert (family == "siglip") == (model.logit_bias is not None) == has_logit_bias(config)
        expected = net(**outputs).logits_per_image
        torch.testing.assert_close(model.logit_scale * cosine + bias, expected, atol=1e-4, rtol=1e-4)
    assert model.encode_images(images).shape == (2, model.embed_dim)
    assert model.image_size == 16


@pytest.mark.parametrize("known", [True, False])
def test_matching_is_that_of_transformers_with_the_token_of_the_published_training(tiny, known: bool) -> None:
    """A vocabulary without `[ENC]` keeps the token that transformers takes."""
    config = tiny("blip")
    model, net = load_model(config), stock(config, "blip")
    images = torch.rand(3, 3, 16, 16, requires_grad=True)
    inputs = tokens(config, "blip")
    assert model.enc_token == 15
    if known:
        inputs["input_ids"][:, 0] = 15
    else:
        model.tokenizer.add_tokens([f"word{number}" for number in range(2)])
        del model.enc_token
        assert model.enc_token is None
    logits = net(pixel_values=normalised(images), **inputs).itm_score
    torch.testing.assert_close(model.match(model.image_tokens(images), CAPTIONS), logits, atol=1e-5, rtol=0)
    scores = model.score_pairs(images, CAPTIONS)
    torch.testing.assert_close(scores, logits[:, 1] - logits[:, 0], atol=1e-5, rtol=0)
    assert model.matches
    assert torch.autograd.grad(scores.sum(), images)[0].abs().min() > 0


def test_a_tokenizer_that_knows_the_token_of_matching_names_it(tiny) -> None:
    model = load_model(tiny("blip"))
    model.tokenizer.add_tokens(["[ENC]", "[DEC]"])
    assert model.enc_token == 14


def test_without_a_matching_head_pairs_are_scored_by_similarity(tiny) -> None:
    model = load_model(tiny("clip"))
    images = torch.rand(3, 3, 16, 16)
    unit = [nn.functional.normalize(x, dim=-1) for x in (model.encode_images(images), model.encode_texts(CAPTIONS))]
    torch.testing.assert_close(model.score_pairs(images, CAPTIONS), model.logit_scale * (unit[0] * unit[1]).sum(1))
    with pytest.raises(ModelError, match="Clip has no image-text matching head"):
        model.match(images, CAPTIONS)


@pytest.mark.parametrize("family", FAMILIES)
def test_captions_that_are_too_long_are_cut(tiny, family: str) -> None:
    assert load_model(tiny(family)).encode_texts(["dog " * 100]).isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_is_frozen_copies_apart_and_gives_the_pixels_a_gradient(tiny, family: str) -> None:
    model: VisionLanguageModel = load_model(tiny(family))
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    assert torch.autograd.grad(model.encode_images(images).sum(), images)[0].abs().min() > 0
    twin = copy.deepcopy(model)
    next(iter(twin.tower("vision").parameters().values())).zero_()
    assert not torch.equal(twin.encode_images(images), model.encode_images(images))
    assert twin.tokenizer is model.tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_no_images_have_no_embeddings_but_a_gradient(tiny, family: str) -> None:
    model = load_model(tiny(family))
    weight = next(iter(model.tower("vision").parameters().values())).requires_grad_()
    none = torch.zeros(0, 3, 16, 16, requires_grad=True)
    features = model.encode_images(none)
    assert features.shape == (0, model.embed_dim)
    gradients = torch.autograd.grad(features.sum(), [none, weight])
    assert gradients[0].shape == none.shape
    assert not gradients[1].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_model_is_loaded_by_transformers_bit_for_bit(tiny, family: str, tmp_path: Path) -> None:
    config = tiny(family)
    model = load_model(config)
    model.save(tmp_path)
    again, before = (
        stock(ModelConfig(source="transformers", name=f"local-dir:{tmp_path}"), family),
        stock(config, family),
    )
    assert again.state_dict().keys() == before.state_dict().keys()
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in again.state_dict().items())
    twin = load_model(ModelConfig(source="transformers", name=f"local-dir:{tmp_path}"))
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(twin.encode_images(images), model.encode_images(images))
    assert torch.equal(twin.encode_texts(CAPTIONS), model.encode_texts(CAPTIONS))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tower", ["vision", "text", "both"])
def test_shapes_are_those_of_the_layers(tiny, family: str, tower: str) -> None:
    config = tiny(family)
    model = load_model(config)
    shapes = linear_shapes(config, "all-linear", tower)
    for name, shape in shapes.items():
        module = model.tower("text" if name.startswith("text/") else "vision").module
        assert module.get_submodule(name.removeprefix("text/")).weight.shape == shape
    per_block = {"vision": 6, "text": 10 if family == "blip" else 6}
    assert len(shapes) == 2 * (sum(per_block.values()) if tower == "both" else per_block[tower])
    assert not any("head" in name for name in shapes)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_of_the_towers_do_not_overlap(tiny, family: str) -> None:
    model = load_model(tiny(family))
    vision, text = (model.tower(name).parameters().keys() for name in ("vision", "text"))
    assert not vision & text
    rest = {name for name, _ in model.net.named_parameters()} - vision - text
    assert rest <= {"logit_scale", "logit_bias"}


def test_fused_attention_of_blip_is_split_for_training_only(tiny) -> None:
    config = tiny("blip")
    split, fused = load_model(config), load_for_adapter(config)
    assert sum(isinstance(layer, SplitProjection) for layer in split.modules()) == 2
    assert not any(isinstance(layer, SplitProjection) for layer in fused.modules())
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(split.encode_images(images), fused.encode_images(images), atol=1e-5, rtol=0)


def test_videos_are_embedded_as_the_mean_of_their_frames(tiny) -> None:
    model = load_model(tiny("clip"))
    video = torch.rand(2, 3, 3, 16, 16)
    frames = [nn.functional.normalize(model.encode_images(video[:, i]), dim=-1) for i in range(3)]
    torch.testing.assert_close(model.embed(video), torch.stack(frames).mean(0), atol=1e-6, rtol=1e-5)
    assert torch.equal(model.embed(video[:, 0]), model.encode_images(video[:, 0]))


def test_block_ranges(tiny) -> None:
    config = tiny("clip")
    last = linear_shapes(config, "mlp", blocks=(-1, -1))
    assert list(last) == [f"vision_model.encoder.layers.1.mlp.{name}" for name in ("fc1", "fc2")]
    assert linear_shapes(config, "mlp", blocks=(0, 1)) == linear_shapes(config, "mlp")
    for blocks in [(1, 0), (0, 2), (-3, -1)]:
        with pytest.raises(ModelError, match=r"adapter\.blocks: .* of the blocks 0 to 1"):
            linear_shapes(config, "mlp", blocks=blocks)


def test_an_unreachable_hub_is_one_sentence() -> None:
    config = ModelConfig(source="transformers", name="openai/clip-vit-large-patch14")
    for call in (load_model, lambda config: linear_shapes(config, "mlp")):
        sentence = reason(config, call)
        assert "'openai/clip-vit-large-patch14' cannot be downloaded or read" in sentence
        assert "local-dir:PATH" in sentence
        assert "\n" not in sentence


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("openai/clip-vit-base-patch32", 72),
        ("google/siglip-base-patch16-224", 72),
        ("Salesforce/blip-itm-base-coco", 72),
    ],
)
def test_shapes_of_the_usual_models_need_no_hub_but_weights_do(name: str, layers: int) -> None:
    config = ModelConfig(source="transformers", name=name)
    shapes = linear_shapes(config, "all-linear")
    assert len(shapes) == layers
    assert set(shapes.values()) == {(768, 768), (3072, 768), (768, 3072)}
    assert "cannot be downloaded or read" in reason(config)


def test_wrong_folders_are_one_sentence(tiny, tmp_path: Path) -> None:
    def at(path: Path, **values) -> ModelConfig:
        return ModelConfig(source="transformers", name=f"local-dir:{path}", **values)

    assert "does not exist" in reason(at(tmp_path / "absent"))
    assert "holds no config.json" in reason(at(tmp_path))
    copied = shutil.copytree(folder(tiny("clip")), tmp_path / "copied")
    assert "leave it out" in reason(at(copied, pretrained="main"))
    settings = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**settings, "model_type": "bert"}))
    assert "is of type 'bert'; known types: clip, siglip, blip" in reason(at(copied))
    settings["vision_config"]["num_hidden_layers"] = 3
    (copied / "config.json").write_text(json.dumps(settings))
    assert "lack 16 tensors that CLIPModel needs" in reason(at(copied))
    (copied / "model.safetensors").write_bytes(b"not weights")
    assert "cannot be read" in reason(at(copied))
    (copied / "model.safetensors").unlink()
    assert "holds no weights" in reason(at(copied))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("call", [load_model, lambda config: linear_shapes(config, "mlp")])
def test_a_folder_without_tokenizer_files_is_refused(tiny, family: str, call, tmp_path: Path) -> None:
    copied = shutil.copytree(folder(tiny(family)), tmp_path / "copied")
    for file in copied.glob("tokenizer*"):
        file.unlink()
    sentence = reason(ModelConfig(source="transformers", name=f"local-dir:{copied}"), call)
    assert "are the tokenizer's files missing" in sentence


def test_loading_leaves_messages_and_randomness_alone(tiny) -> None:
    from transformers.utils import logging

    before = (logging.get_verbosity(), logging.is_progress_bar_enabled(), torch.random.get_rng_state())
    load_model(tiny("clip"))
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before[:2]
    assert torch.equal(torch.random.get_rng_state(), before[2])
