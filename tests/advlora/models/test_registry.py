from __future__ import annotations

import copy
import json
import logging
import shutil
from pathlib import Path

import huggingface_hub
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from advlora.config import ModelConfig
from advlora.errors import ModelError
from advlora.identity import local_content
from advlora.models import VisionLanguageModel, embedded_models, linear_shapes, load_model
from advlora.models.quiet import contained
from tests.advlora.models.conftest import TINY

pytestmark = pytest.mark.unit

CAPTIONS = ["a photo of a dress", "a boot"]


def local(folder: Path) -> ModelConfig:
    return ModelConfig(source="open_clip", name=f"local-dir:{folder}")


def reason(config: ModelConfig, call=load_model) -> str:
    with pytest.raises(ModelError) as raised:
        call(config)
    assert len(raised.value.problems) == 1
    return raised.value.problems[0]


def test_embeds_as_open_clip_does(folder: Path, stock: nn.Module) -> None:
    model = load_model(local(folder))
    images = torch.rand(3, 3, 16, 16)
    normalised = (images - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)
    torch.testing.assert_close(model.encode_images(images), stock.encode_image(normalised), atol=2e-5, rtol=0)
    tokens = open_clip.SimpleTokenizer(context_length=12)(CAPTIONS)
    texts = model.encode_texts(CAPTIONS)
    torch.testing.assert_close(texts, stock.encode_text(tokens).detach())
    assert not texts.requires_grad
    assert isinstance(model, VisionLanguageModel)
    assert (model.image_size, model.embed_dim) == (16, 24)
    assert model.logit_scale == stock.logit_scale.exp()


def test_many_captions_come_in_order(folder: Path) -> None:
    model = load_model(local(folder))
    captions = [f"number {i}" for i in range(300)]
    torch.testing.assert_close(model.encode_texts(captions)[[0, 299]], model.encode_texts(["number 0", "number 299"]))


def test_is_frozen_and_in_eval_mode(folder: Path) -> None:
    model = load_model(local(folder))
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())


def test_gradient_reaches_the_pixels(folder: Path) -> None:
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    loss = load_model(local(folder)).encode_images(images).sum()
    assert torch.autograd.grad(loss, images)[0].abs().min() > 0


def test_saved_model_is_loaded_by_open_clip(folder: Path, stock: nn.Module, tmp_path: Path) -> None:
    load_model(local(folder)).save(tmp_path / "saved")
    again = open_clip.create_model(f"local-dir:{tmp_path / 'saved'}")
    assert again.state_dict().keys() == stock.state_dict().keys()
    assert all(torch.equal(value, stock.state_dict()[name]) for name, value in again.state_dict().items())
    assert tuple(again.visual.preprocess_cfg["mean"]) == (0.1, 0.2, 0.3)


def test_embedded_model() -> None:
    assert "tiny-clip" in embedded_models()
    model = load_model(ModelConfig())
    assert model.encode_images(torch.rand(2, 3, model.image_size, model.image_size)).shape == (2, model.embed_dim)
    assert model.encode_texts(CAPTIONS).shape == (2, model.embed_dim)


def test_saving_keeps_the_tokenizer(tmp_path: Path) -> None:
    model = load_model(ModelConfig())
    model.save(tmp_path)
    assert torch.equal(load_model(local(tmp_path)).encode_texts(CAPTIONS), model.encode_texts(CAPTIONS))


def test_copies_are_independent(folder: Path) -> None:
    model = load_model(local(folder))
    twin = copy.deepcopy(model)
    twin.vision.get_parameter("proj").zero_()
    assert model.vision.get_parameter("proj").abs().sum() > 0
    assert type(twin) is type(model)
    assert twin.tokenizer is model.tokenizer
    assert torch.equal(twin.encode_texts(CAPTIONS), model.encode_texts(CAPTIONS))


@pytest.mark.parametrize(
    ("target", "layers"),
    [
        ("attention", ["q_proj", "k_proj", "v_proj", "out_proj"]),
        ("attention-qv", ["q_proj", "v_proj"]),
        ("mlp", ["c_fc", "c_proj"]),
        ("all-linear", ["q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj"]),
    ],
)
def test_shapes_are_those_of_the_layers(folder: Path, target: str, layers: list[str]) -> None:
    shapes = linear_shapes(local(folder), target)
    vision = load_model(local(folder)).vision
    assert [name.rpartition(".")[2] for name in shapes] == layers * 2
    for name, shape in shapes.items():
        assert vision.get_submodule(name).weight.shape == shape
    if "c_fc" in layers:
        assert shapes["transformer.resblocks.1.mlp.c_fc"] == (128, 32)


@pytest.mark.parametrize("call", [load_model, lambda config: linear_shapes(config, "mlp")])
def test_weights_that_cannot_be_read_are_told_before_a_trial(folder: Path, call) -> None:
    (folder / "model.safetensors").write_bytes(b"not weights")
    assert f"file '{folder / 'model.safetensors'}' cannot be read" in reason(local(folder), call)


def test_paths_may_hold_the_home_folder_and_variables(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("MODELS", str(folder.parent))
    names = [f"local-dir:~/{folder.name}", f"local-dir:$MODELS/{folder.name}", f"local-dir:${{MODELS}}/{folder.name}"]
    for name in names:
        config = ModelConfig(source="open_clip", name=name)
        assert len(linear_shapes(config, "mlp")) == 4
        assert local_content(config) == local_content(local(folder)) != ""
    assert torch.equal(load_model(config).encode_texts(CAPTIONS), load_model(local(folder)).encode_texts(CAPTIONS))
    missing = ModelConfig(source="open_clip", name="ViT-B-32", pretrained="~/absent.pt")
    assert f"file '{folder.parent}/absent.pt' does not exist" in reason(missing)


def test_a_model_of_the_hub_brings_its_own_configuration(folder: Path, tmp_path_factory, monkeypatch) -> None:
    """As it lies in the hub's cache, where it is found without a network."""
    cache = tmp_path_factory.mktemp("hub")
    snapshot = cache / "models--org--tiny" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (cache / "models--org--tiny" / "refs").mkdir()
    (cache / "models--org--tiny" / "refs" / "main").write_text("0" * 40)
    shutil.copyfile(folder / "open_clip_config.json", snapshot / "open_clip_config.json")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub = ModelConfig(source="open_clip", name="hf-hub:org/tiny")
    assert linear_shapes(hub, "mlp") == linear_shapes(local(folder), "mlp")
    assert "'hf-hub:org/tiny' cannot be downloaded or read" in reason(hub)
    shutil.copyfile(folder / "model.safetensors", snapshot / "open_clip_model.safetensors")
    assert torch.equal(load_model(hub).encode_texts(CAPTIONS), load_model(local(folder)).encode_texts(CAPTIONS))
    assert "has no effect with model 'hf-hub:org/tiny' of the hub" in reason(hub.model_copy(update={"pretrained": "x"}))
    absent = ModelConfig(source="open_clip", name="hf-hub:org/absent")
    for call in (load_model, lambda config: linear_shapes(config, "mlp")):
        assert "is the Hugging Face hub reachable?" in reason(absent, call)


def test_a_tokenizer_without_its_files_is_refused(tmp_path: Path) -> None:
    load_model(ModelConfig()).save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert "tokenizer" in reason(local(tmp_path))


def test_embeddings_are_not_normalised_in_coca_either(tmp_path: Path) -> None:
    text = {**TINY["text_cfg"], "embed_cls": True, "output_tokens": True}
    vision = {**TINY["vision_cfg"], "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    settings = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text, "custom_text": True}
    settings["multimodal_cfg"] = TINY["text_cfg"]
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": {}}))
    clip = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False)
    save_file({name: value.clone() for name, value in clip.state_dict().items()}, tmp_path / "model.safetensors")
    model, images = load_model(local(tmp_path)), torch.rand(2, 3, 16, 16)
    found, unit = model.encode_images(images), clip.eval().encode_image((images - model.mean) / model.std)
    assert (found.norm(dim=1) - 1).abs().min() > 0.1
    torch.testing.assert_close(nn.functional.normalize(found, dim=1), unit, atol=1e-5, rtol=0)
    assert (model.encode_texts(CAPTIONS).norm(dim=1) - 1).abs().min() > 0.1


def test_shapes_of_a_known_tag_need_no_download() -> None:
    config = ModelConfig(source="open_clip", name="ViT-B-32", pretrained="laion2b_s34b_b79k")
    shapes = linear_shapes(config, "all-linear")
    assert len(shapes) == 72
    assert shapes["transformer.resblocks.11.mlp.c_proj"] == (768, 3072)


@pytest.mark.parametrize(
    ("name", "tag", "family"),
    [
        ("RN50-quickgelu", "yfcc15m", "ModifiedResNet"),
        ("EVA02-B-16", "merged2b_s8b_b131k", "Eva"),
        ("ViTamin-S", "datacomp1b", "VisionTransformer"),
        pytest.param("convnext_base", "laion400m_s13b_b51k", "ConvNeXt", marks=pytest.mark.slow),
        pytest.param("MobileCLIP-S1", "datacompdr", "FastVit", marks=pytest.mark.slow),
    ],
)
def test_families_that_no_low_rank_adapter_fits_are_named(name: str, tag: str, family: str) -> None:
    sentence = reason(
        ModelConfig(source="open_clip", name=name, pretrained=tag), lambda config: linear_shapes(config, "all-linear")
    )
    assert "adapter.target 'all-linear' needs transformer blocks with " in sentence
    assert f"which the vision tower {family} of '{name}' does not have; no low-rank adapter fits there" in sentence


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"name": "tiny-clp"}, "no embedded model 'tiny-clp'; did you mean 'tiny-clip'?"),
        ({"name": "x"}, "known: tiny-clip"),
        ({"source": "open_clip", "name": "ViT-B32"}, "no architecture 'ViT-B32'; did you mean 'ViT-B-32'?"),
        ({"source": "open_clip", "name": "ViT-B-32"}, "model.pretrained is required"),
        ({"source": "open_clip", "name": "ViT-B-32", "pretrained": "laion2b"}, "did you mean 'laion2b_e16'?"),
        ({"source": "open_clip", "name": "ViT-B-32", "pretrained": "no/such.pt"}, "'no/such.pt' does not exist"),
        ({"source": "open_clip", "name": "ViT-B-32", "pretrained": "openai"}, "use architecture 'ViT-B-32-quickgelu'"),
        ({"source": "open_clip", "name": "local-dir:no/such"}, "folder 'no/such' does not exist"),
    ],
)
@pytest.mark.parametrize("call", [load_model, lambda config: linear_shapes(config, "mlp")])
def test_unknown_names(values: dict[str, str], sentence: str, call) -> None:
    assert sentence in reason(ModelConfig(**values), call)


def test_incomplete_folders(folder: Path) -> None:
    file = folder / "open_clip_config.json"
    assert "leave it out" in reason(ModelConfig(source="open_clip", name=f"local-dir:{folder}", pretrained="openai"))
    (folder / "model.safetensors").unlink()
    assert "holds no weights" in reason(local(folder))
    file.write_text("{}")
    assert "no 'model_cfg'" in reason(local(folder))
    file.write_text("{")
    assert "not readable JSON" in reason(local(folder))
    file.unlink()
    assert "holds no open_clip_config.json" in reason(local(folder))


def test_weights_of_another_architecture(folder: Path) -> None:
    file = folder / "open_clip_config.json"
    content = json.loads(file.read_text())
    content["model_cfg"]["vision_cfg"]["layers"] = 3
    file.write_text(json.dumps(content))
    assert "cannot be read" in reason(local(folder))
    content["model_cfg"]["vision_cfg"]["nonsense"] = 3
    file.write_text(json.dumps(content))
    assert "cannot build" in reason(local(folder), lambda config: linear_shapes(config, "mlp"))


def test_unreachable_hub_is_one_sentence() -> None:
    sentence = reason(ModelConfig(source="open_clip", name="ViT-B-32", pretrained="commonpool_s_s13m_b4k"))
    assert "'commonpool_s_s13m_b4k' of model 'ViT-B-32' cannot be downloaded" in sentence
    assert "\n" not in sentence


def test_loading_leaves_logging_and_randomness_alone(folder: Path) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), list(root.filters), root.level)
    random = torch.random.get_rng_state()
    load_model(local(folder))
    linear_shapes(local(folder), "mlp")
    assert (list(root.handlers), list(root.filters), root.level) == before
    assert torch.equal(torch.random.get_rng_state(), random)


def test_only_open_clip_is_silenced(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with contained():
        open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        logging.getLogger().warning("of another")
    assert [record.message for record in caplog.records] == ["of another"]
    open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    assert len(caplog.records) > 1
