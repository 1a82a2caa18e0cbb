from __future__ import annotations

import copy
import json
import logging
from pathlib import Path

import open_clip
import pytest
import torch
from torch import nn

from advlora.config import ModelConfig
from advlora.errors import ModelError
from advlora.models import VisionLanguageModel, embedded_models, linear_shapes, load_model
from advlora.models.quiet import contained

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


def test_shapes_read_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not weights")
    assert len(linear_shapes(local(folder), "all-linear")) == 12
    assert "cannot be read" in reason(local(folder))


def test_shapes_of_a_known_tag_need_no_download() -> None:
    config = ModelConfig(source="open_clip", name="ViT-B-32", pretrained="laion2b_s34b_b79k")
    shapes = linear_shapes(config, "all-linear")
    assert len(shapes) == 72
    assert shapes["transformer.resblocks.11.mlp.c_proj"] == (768, 3072)


def test_tower_without_blocks_is_refused() -> None:
    config = ModelConfig(source="open_clip", name="RN50-quickgelu", pretrained="yfcc15m")
    with pytest.raises(
        ModelError, match=r"mlp\.c_fc, mlp\.c_proj, which the vision tower ModifiedResNet does not have"
    ):
        linear_shapes(config, "mlp")


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
