from __future__ import annotations

import copy
import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.functional import linear

from advlora.adapters import AdaptedModel, adapt, memo
from advlora.adapters.clustering import kmeans
from advlora.config import LoraAdapter, ModelConfig
from advlora.errors import ModelError
from advlora.models import VisionLanguageModel, load_model
from tests.advlora.short_trials import adapter

pytestmark = pytest.mark.unit

STARTS = ["kmeans", "gaussian", "norm_matched", "pissa", "milora"]
OFF = {"init": "gaussian", "alignment": {"enabled": False}, "adaptive": {"enabled": False}}


def ingredients(start: str, aligned: bool, adaptive: bool, **adaptation) -> dict:
    return {
        "init": {"kind": start},
        "alignment": {"enabled": aligned},
        "adaptive": {"enabled": adaptive, **(adaptation if adaptive else {})},
    }


def dense(model: VisionLanguageModel, layer) -> Tensor:
    """The weight by hand: W0 - a0 s B0 A0 + s B diag(alpha) A, with W0 read from the pretrained model."""
    scale, anchor = layer.scaling["default"], layer.anchors["default"]
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    alpha = layer.lora_adaptive["default"] if "default" in layer.lora_adaptive else torch.ones(1)
    return model - anchor.factor * anchor.b0 @ anchor.a0 + scale * b @ torch.diag(alpha.expand(len(a))) @ a


@pytest.mark.parametrize(("start", "aligned", "adaptive"), itertools.product(STARTS, [True, False], [True, False]))
@pytest.mark.parametrize("variation", ["default", "scaled", "few clusters"])
def test_function_is_kept_at_the_start(
    make, pretrained: VisionLanguageModel, images: Tensor, start: str, aligned: bool, adaptive: bool, variation: str
) -> None:
    values = ingredients(start, aligned, adaptive, initial=1.0 if variation == "default" else 0.3)
    if variation == "scaled":
        values |= {"alpha": 16, "target": "attention-qv"}
        values["adaptive"] |= {"per": "rank"} if adaptive else {}
    if variation == "few clusters" and start in ("kmeans", "norm_matched"):
        values["init"] |= {"clusters": 3, "axis": "columns"}
    adapted = make(**values)
    expected = pretrained.encode_images(images)
    torch.testing.assert_close(adapted.model.encode_images(images), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["full", "linear_probe", "none"])
def test_other_kinds_keep_the_function_exactly(make, pretrained, images: Tensor, kind: str) -> None:
    assert torch.equal(make(kind=kind).model.encode_images(images), pretrained.encode_images(images))


def test_embedded_model_keeps_its_function() -> None:
    model = load_model(ModelConfig())
    pixels = torch.rand(4, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(0))
    expected = model.encode_images(pixels)
    adapted = adapt(copy.deepcopy(model), LoraAdapter(), 0)
    torch.testing.assert_close(adapted.model.encode_images(pixels), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("per", ["matrix", "rank"])
def test_trained_layer_is_the_formula(make, train, pretrained: VisionLanguageModel, start: str, per: str) -> None:
    adapted = train(make(**ingredients(start, True, True, per=per, initial=0.5), alpha=8))
    for name, layer in adapted.layers.items():
        weight = dense(pretrained.vision.get_submodule(name).weight, layer)
        assert (weight - pretrained.vision.get_submodule(name).weight).abs().max() > 1e-3
        x = torch.randn(5, layer.in_features)
        torch.testing.assert_close(layer(x), linear(x, weight, layer.bias), atol=2e-5, rtol=0)


def test_everything_off_is_stock_lora(make, train, pretrained: VisionLanguageModel, images: Tensor) -> None:
    adapted = make(alpha=8, dropout=0.0, **OFF)
    vision = copy.deepcopy(pretrained.vision)
    stock = get_peft_model(vision, LoraConfig(r=4, lora_alpha=8, target_modules=list(adapted.layers)))
    for name, layer in adapted.layers.items():
        vision.get_submodule(name).lora_A["default"].weight.data = layer.lora_A["default"].weight.data.clone()
    train(adapted)
    optimiser = torch.optim.Adam([p for p in stock.parameters() if p.requires_grad], lr=0.02)
    for _ in range(4):
        loss = stock((images - 0.5) / 0.5).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.equal(adapted.model.encode_images(images), stock((images - 0.5) / 0.5))
    assert adapted.trainable == sum(p.numel() for p in stock.parameters() if p.requires_grad)


@pytest.mark.parametrize(("per", "scales"), [("matrix", 1), ("rank", 4)])
def test_trainable_parameters_of_lora(make, pretrained: VisionLanguageModel, per: str, scales: int) -> None:
    adapted = make(adaptive={"per": per})
    block = 4 * (32 + 32) * 4 + 2 * (32 + 128) * 4 + 6 * scales
    assert adapted.trainable == 2 * block == sum(p.numel() for p in adapted.parameters())
    tower = sum(p.numel() for p in pretrained.vision.parameters())
    assert adapted.trainable_fraction == adapted.trainable / tower
    assert all("lora_" in name for name, p in adapted.model.named_parameters() if p.requires_grad)


def test_trainable_parameters_of_other_kinds(make, pretrained: VisionLanguageModel) -> None:
    assert make(kind="none").parameters() == []
    assert make(kind="linear_probe").trainable == 32 * 24
    full = make(kind="full")
    assert full.trainable_fraction == 1
    assert all(name.startswith("clip.visual") for name, p in full.model.named_parameters() if p.requires_grad)


@pytest.mark.parametrize("start", STARTS)
def test_every_trainable_parameter_moves(make, train, start: str) -> None:
    adapted = make(**ingredients(start, True, True))
    before = [parameter.detach().clone() for parameter in adapted.parameters()]
    train(adapted, steps=3)
    assert all(not torch.equal(p, old) for p, old in zip(adapted.parameters(), before, strict=True))
    assert all(p.grad is None for name, p in adapted.model.named_parameters() if not p.requires_grad)


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_penalty_is_the_dense_formula(make, train, pretrained: VisionLanguageModel, axis: str) -> None:
    adapted = train(make(alpha=8, init={"clusters": 6, "axis": axis}, alignment={"weight": 0.5, "target": "clusters"}))
    terms = []
    for name, layer in adapted.layers.items():
        weight = pretrained.vision.get_submodule(name).weight
        target = kmeans(weight, 6, axis=axis).matrix()
        product = layer.lora_adaptive["default"] * 2 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        terms.append((product - target).square().sum() / weight.square().sum())
    torch.testing.assert_close(adapted.penalty(), 0.5 * torch.stack(terms).mean(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("start", ["gaussian", "pissa"])
@pytest.mark.parametrize("at", ["training", "both"])
@pytest.mark.parametrize("kind", ["start", "weight"])
def test_penalty_compares_with_the_start_or_the_weight(make, train, pretrained, start: str, at: str, kind: str) -> None:
    values = ingredients(start, True, True, initial=0.7) | {"alignment": {"at": at, "weight": 2.0, "target": kind}}
    adapted = train(make(alpha=6, **values))
    terms = []
    for name, layer in adapted.layers.items():
        weight, anchor = pretrained.vision.get_submodule(name).weight, layer.anchors["default"]
        target = weight if kind == "weight" else 0.7 * 1.5 * anchor.b0 @ anchor.a0
        product = layer.lora_adaptive["default"] * 1.5 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        terms.append((product - target).square().sum() / weight.square().sum())
    torch.testing.assert_close(adapted.penalty(), 2 * torch.stack(terms).mean(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("alignment", [{"enabled": False}, {"at": "start"}, {"weight": 0}])
def test_no_penalty(make, alignment: dict) -> None:
    assert make(alignment=alignment).penalty() is None
    assert make(kind="full").penalty() is None


def test_penalty_alone_aligns_with_clusters(make) -> None:
    alignment = {"at": "training", "weight": 1.0, "target": "clusters"}
    adapted = make(alignment=alignment, adaptive={"initial": 0.5})
    optimiser = torch.optim.Adam(adapted.parameters(), lr=0.01)
    first = float(adapted.penalty())
    for _ in range(60):
        optimiser.zero_grad()
        adapted.penalty().backward()
        optimiser.step()
    assert adapted.penalty() < 0.1 * first


@pytest.mark.parametrize("values", [{"kind": kind} for kind in ("full", "linear_probe")] + [
    ingredients(start, True, True, per="rank") for start in STARTS
])  # fmt: skip
def test_state_is_restored_bit_for_bit(make, train, images: Tensor, values: dict, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    adapted = train(make(**values))
    save_file(adapted.state(), tmp_path / "state.safetensors")
    restored = make(**values)
    restored.load_state(load_file(tmp_path / "state.safetensors"))
    assert torch.equal(restored.model.encode_images(images), adapted.model.encode_images(images))
    assert restored.state().keys() == adapted.state().keys()
    assert all(torch.equal(value, adapted.state()[name]) for name, value in restored.state().items())


def test_state_does_not_change_with_the_model(make, train) -> None:
    adapted = make()
    state = adapted.state()
    before = {name: value.clone() for name, value in state.items()}
    train(adapted)
    assert all(torch.equal(value, before[name]) for name, value in state.items())


def test_training_continues_exactly(make, train, images: Tensor) -> None:
    whole, half = make(), make()
    features = []
    for adapted in (whole, half):
        optimiser = torch.optim.SGD(adapted.parameters(), lr=0.05)
        for step in range(4):
            if adapted is half and step == 2:
                state, adapted = adapted.state(), make()
                adapted.load_state(state)
                optimiser = torch.optim.SGD(adapted.parameters(), lr=0.05)
            optimiser.zero_grad()
            (adapted.model.encode_images(images).square().mean() + adapted.penalty()).backward()
            optimiser.step()
        features.append(adapted.model.encode_images(images))
    assert torch.equal(*features)


@pytest.mark.parametrize("other", [{"seed": 5}, {"init": {"seed": 4}}])
def test_state_of_another_start_brings_its_start(make, train, images: Tensor, other: dict) -> None:
    adapted = train(make(**other))
    restored = make()
    restored.load_state(adapted.state())
    expected = adapted.model.encode_images(images)
    torch.testing.assert_close(restored.model.encode_images(images), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(restored.penalty(), adapted.penalty(), atol=1e-6, rtol=0)


def test_state_of_another_configuration_is_refused(make) -> None:
    with pytest.raises(ValueError, match="does not belong"):
        make().load_state(make(adaptive={"enabled": False}).state())
    with pytest.raises(ValueError, match="does not belong"):
        make(adaptive={"per": "rank"}).load_state(make().state())


def test_same_seed_same_adapter(make) -> None:
    before = torch.random.get_rng_state()
    first, again, other = make(seed=1, **OFF).state(), make(seed=1, **OFF).state(), make(seed=2, **OFF).state()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_cache_folder_is_used(make, tmp_path: Path) -> None:
    memo.forget()
    first = make(cache_dir=tmp_path).state()
    memo.forget()
    assert len(list(tmp_path.glob("kmeans-*.safetensors"))) == 12
    again = make(cache_dir=tmp_path).state()
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_dropout_acts_in_training_mode_only(make, train, images: Tensor) -> None:
    adapted = train(make(dropout=0.5))
    features = adapted.model.encode_images(images)
    assert torch.equal(adapted.model.encode_images(images), features)
    adapted.model.train()
    assert not torch.equal(adapted.model.encode_images(images), features)


def test_impossible_adapters_are_refused(pretrained: VisionLanguageModel) -> None:
    config = adapter(rank=33, init={"clusters": 40})
    with pytest.raises(ModelError) as raised:
        adapt(copy.deepcopy(pretrained), config, 0)
    assert len(raised.value.problems) == 2
    without = copy.deepcopy(pretrained)
    without.vision.proj = None
    with pytest.raises(ModelError, match="final projection 'proj'"):
        adapt(without, adapter("linear_probe"), 0)


def test_copies_train_apart(make, train, images: Tensor) -> None:
    adapted: AdaptedModel = make()
    twin = copy.deepcopy(adapted)
    before = adapted.model.encode_images(images)
    train(twin)
    assert torch.equal(adapted.model.encode_images(images), before)
    assert not torch.equal(twin.model.encode_images(images), before)


def test_importing_adapters_does_not_import_peft() -> None:
    heavy = "{'peft', 'open_clip', 'transformers'}"
    code = f"import sys, advlora.adapters, advlora.models; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_metrics_say_how_far_the_products_are_and_what_the_scales_are(make, train) -> None:
    adapted = make(adaptive={"per": "rank", "initial": 0.5})
    start = {"train/adaptive_mean": 0.5, "train/adaptive_min": 0.5, "train/adaptive_max": 0.5, "train/misfit": 0.0}
    assert adapted.metrics() == pytest.approx(start, abs=1e-12)
    found = train(adapted).metrics()
    scales = torch.cat([layer.lora_adaptive["default"] for layer in adapted.layers.values()])
    assert found["train/adaptive_min"] == float(scales.min()) < float(scales.max()) == found["train/adaptive_max"]
    assert found["train/adaptive_mean"] == pytest.approx(float(scales.detach().mean()))
    assert 3 * found["train/misfit"] == pytest.approx(float(adapted.penalty().detach()))
    assert set(make(**OFF).metrics()) == {"train/misfit"}
    assert make(kind="full").metrics() == {}


@pytest.mark.parametrize("kind", ["lora", "dora", "adalora"])
def test_low_rank_factors_decay_towards_their_start_and_learn_at_their_own_rates(make, train, kind: str) -> None:
    values = {"adaptive": {"learning_rate_factor": 7.0}} if kind == "lora" else {}
    adapted = make(kind=kind, loraplus_lr_ratio=3.0, modules_to_save=["norms"], **values)
    names = list(adapted._trained)
    before = {name: parameter.detach().clone() for name, parameter in adapted._trained.items()}
    train(adapted)
    treated = dict(zip(names, adapted.trained_parameters(), strict=True))
    for name, each in treated.items():
        wanted = {".lora_B.": 3.0, ".lora_adaptive.": 7.0}
        assert each.learning_rate_factor == next((rate for part, rate in wanted.items() if part in name), 1.0)
        assert (each.start is not None) == (".lora_" in name and each.parameter.dim() > 1)
        assert each.start is None or torch.equal(each.start, before[name])
    again = make(kind=kind, loraplus_lr_ratio=3.0, modules_to_save=["norms"], **values)
    again.load_state(adapted.state())
    for ours, theirs in zip(again.trained_parameters(), adapted.trained_parameters(), strict=True):
        assert ours.start is theirs.start is None or torch.equal(ours.start, theirs.start)


def test_a_state_of_another_start_decays_towards_that_start(make) -> None:
    other, restored = make(init={"seed": 4}), make()
    restored.load_state(other.state())
    for ours, theirs in zip(restored.trained_parameters(), other.trained_parameters(), strict=True):
        assert ours.start is theirs.start is None or torch.equal(ours.start, theirs.start)


def test_what_is_not_low_rank_decays_towards_zero(make) -> None:
    assert {(each.learning_rate_factor, each.start) for each in make(kind="full").trained_parameters()} == {(1.0, None)}
