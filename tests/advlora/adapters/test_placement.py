from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from advlora.adapters import adapt
from advlora.adapters.placement import names_for_peft, small_parameters
from advlora.errors import ModelError
from advlora.models import linear_shapes, load_model
from tests.advlora.short_trials import adapter

pytestmark = pytest.mark.unit

CAPTIONS = ["a photo of a cat", "the red boot"]


@pytest.fixture
def made(tiny, base):
    def made(source: str, **values):
        config = base if source == "open_clip" else tiny(source)
        return adapt(load_model(config), adapter(**values), 0), load_model(config)

    return made


SOURCES = ["open_clip", "clip", "siglip", "blip"]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("tower", ["vision", "text", "both"])
@pytest.mark.parametrize("kind", ["lora", "dora", "adalora"])
def test_the_function_is_kept_and_only_the_adapter_is_trained(made, images, source, tower, kind) -> None:
    adapted, before = made(source, kind=kind, tower=tower)
    torch.testing.assert_close(adapted.model.encode_images(images), before.encode_images(images), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(
        adapted.model.encode_texts(CAPTIONS), before.encode_texts(CAPTIONS), atol=2e-5, rtol=1e-4
    )
    trained = [name for name, value in adapted.model.named_parameters() if value.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert len(trained) == len(adapted.parameters())
    texts = {name.startswith("text/") for name in adapted.layers}
    assert texts == {"vision": {False}, "text": {True}, "both": {False, True}}[tower]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("target", ["attention", "attention-qv", "mlp"])
def test_layers_are_those_of_the_shapes(made, tiny, base, source, target) -> None:
    adapted, _ = made(source, tower="both", target=target, blocks=(-1, -1))
    config = base if source == "open_clip" else tiny(source)
    assert set(adapted.layers) == set(linear_shapes(config, target, "both", (-1, -1)))
    for name, layer in adapted.layers.items():
        assert (layer.out_features, layer.in_features) == linear_shapes(config, target, "both", (-1, -1))[name]


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_ranks_of_roles(made, kind) -> None:
    adapted, _ = made("open_clip", kind=kind, ranks={"mlp": 6, "attention": 2})
    for name, layer in adapted.layers.items():
        rank = 6 if ".mlp." in name else 2
        assert layer.lora_A["default"].weight.shape[0] == rank
        assert layer.scaling["default"] == 1


def test_scaling_of_rslora(made, images) -> None:
    adapted, before = made("open_clip", rslora=True, alpha=8, ranks={"mlp": 16})
    torch.testing.assert_close(adapted.model.encode_images(images), before.encode_images(images), atol=2e-5, rtol=1e-4)
    scales = {layer.r["default"]: layer.scaling["default"] for layer in adapted.layers.values()}
    assert scales == {4: 8 / 4**0.5, 16: 8 / 16**0.5}
    assert adapter(alpha=8, rslora=True).scaling == 4


def test_a_rank_that_does_not_fit_a_role_is_refused(made) -> None:
    with pytest.raises(ModelError, match=r"adapter\.rank: 40 is above 32, the shorter side of layer '.*c_fc'"):
        made("open_clip", ranks={"mlp": 40})
    with pytest.raises(ModelError, match=r"adapter\.rank: 33 is above 32"):
        made("open_clip", kind="adalora", rank=22)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("tower", ["vision", "text"])
def test_small_parameters_are_found_by_kind(made, source, tower) -> None:
    _, model = made(source, kind="none")
    view = model.tower(tower)
    kinds = ["norms", "biases", "position_embedding", *(["patch_embedding"] if tower == "vision" else [])]
    found = {kind: small_parameters(view, [kind]) for kind in kinds}
    names = [name for part in found.values() for name in part]
    assert len(names) == len(set(names))
    layers = view.layers("all-linear")
    matrices = {f"{name}.weight" for name in layers}
    assert not matrices & set(names)
    assert {f"{name}.bias" for name, layer in layers.items() if layer.bias is not None} <= set(found["biases"])
    assert len(found["position_embedding"]) == 1
    assert all(value.dim() == 1 for value in found["norms"].values())


@pytest.mark.parametrize("source", SOURCES)
def test_small_parameters_are_trained_beside_the_adapter(made, source) -> None:
    small = ["norms", "biases", "patch_embedding", "position_embedding"]
    plain, _ = made(source)
    adapted, before = made(source, modules_to_save=small)
    expected = small_parameters(before.tower("vision"), small)
    assert adapted.trainable == plain.trainable + sum(value.numel() for value in expected.values())
    assert adapted.layers.keys() == plain.layers.keys()


def test_what_a_tower_lacks_is_said(made) -> None:
    with pytest.raises(ModelError, match="text tower CLIP has no 'patch_embedding'"):
        made("open_clip", tower="text", modules_to_save=["patch_embedding"])
    with pytest.raises(ModelError, match="the vision tower SiglipModel"):
        made("siglip", kind="linear_probe")


@pytest.mark.parametrize(
    ("source", "tower", "size"),
    [("open_clip", "vision", 32 * 24), ("clip", "both", 2 * 32 * 24), ("blip", "text", 33 * 24)],
)
def test_the_linear_probe_of_every_library(made, source, tower, size) -> None:
    adapted, _ = made(source, kind="linear_probe", tower=tower)
    assert adapted.trainable == size


@pytest.mark.parametrize("source", SOURCES)
def test_full_and_norms(made, source) -> None:
    full, before = made(source, kind="full", tower="both")
    assert full.trainable_fraction == 1
    sizes = [value.numel() for name in ("vision", "text") for value in before.tower(name).parameters().values()]
    assert full.trainable == sum(sizes)
    norms, _ = made(source, kind="norms")
    assert 0 < norms.trainable_fraction < 0.1


def test_one_caption_embedding_follows_the_text_adapter(made, images: Tensor) -> None:
    adapted, before = made("open_clip", tower="text")
    adapted.model.embed_texts(CAPTIONS).square().sum().backward()
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter -= parameter.grad
    assert torch.equal(adapted.model.encode_images(images), before.encode_images(images))
    assert not torch.allclose(adapted.model.encode_texts(CAPTIONS), before.encode_texts(CAPTIONS), atol=1e-3)
    assert adapted.trains_text


def test_names_that_end_alike_are_told_apart(pretrained) -> None:
    clip = copy.deepcopy(pretrained).clip
    inner = ["transformer.resblocks.0.mlp.c_fc"]
    assert names_for_peft(inner, clip) == r"transformer\.resblocks\.0\.mlp\.c_fc"
    assert names_for_peft(inner, clip.visual) == inner


FULL_LORA_AT = {"norm_before": True, "init": "gaussian", "alignment": {"enabled": False}}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"kind": "adalora", "initial_rank": 3}, "initial_rank: 3 is below the rank 4"),
        ({"kind": "adalora", "warmup": 0.6, "final": 0.5}, "must add up to less than 1"),
        ({"norm_before": True}, "norm_before needs init 'gaussian'"),
        ({"norm_before": True, "init": "gaussian"}, "alignment off or in training only"),
        ({**FULL_LORA_AT, "tower": "both"}, "only the vision tower"),
    ],
)
def test_combinations_that_make_no_sense_are_refused(values: dict, sentence: str) -> None:
    from advlora.errors import ConfigError

    with pytest.raises(ConfigError, match=sentence):
        adapter(**values)
