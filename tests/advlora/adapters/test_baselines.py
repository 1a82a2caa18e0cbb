from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from advlora.adapters import AdaptedModel, adapt, load_trained, save_trained
from advlora.adapters.adaptive import scheduled_alpha
from advlora.adapters.export import ExportError, merged
from advlora.config import AdaptiveConfig
from advlora.models import load_for_adapter, load_model
from tests.advlora.short_trials import adapter

pytestmark = pytest.mark.unit

CAPTIONS = ["a photo of a cat", "the red boot", "dog"]
LORA = {"init": "gaussian", "alignment": {"enabled": False}, "adaptive": {"enabled": False}}
ALL = ["norms", "biases", "patch_embedding", "position_embedding", "projection"]
RECIPES = {
    "advlora": {},
    "lora": LORA,
    "rslora": {**LORA, "rslora": True, "alpha": 3, "ranks": {"attention": 2}},
    "dora": {"kind": "dora", "ranks": {"attention": 2}},
    "dora qv": {"kind": "dora", "target": "attention-qv", "blocks": (-1, -1)},
    "adalora": {"kind": "adalora"},
    "norms": {"kind": "norms"},
    "small": {"modules_to_save": ALL[:4]},
    "fixed": {"adaptive": {"mode": "fixed", "initial": 0.5}},
    "scheduled": {"adaptive": {"mode": "scheduled", "initial": 0.5, "final": 2.0, "per": "rank"}},
    "norm before": {**LORA, "norm_before": True},
    "full": {"kind": "full"},
}


def objective(adapted: AdaptedModel, images: Tensor) -> Tensor:
    model = adapted.model
    loss = model.encode_images(images).square().mean()
    if adapted.trains_text:
        loss = loss + model.embed_texts(CAPTIONS).square().mean()
    if model.matches:
        loss = loss + model.score_pairs(images[:3], CAPTIONS).square().mean()
    penalty = adapted.penalty()
    return loss if penalty is None else loss + penalty


def train(
    adapted: AdaptedModel, images: Tensor, steps: range = range(6), total: int = 6, kind=torch.optim.SGD
) -> AdaptedModel:
    adapted.schedule(total)
    optimiser = kind(adapted.parameters(), lr=0.05)
    for step in steps:
        adapted.before_step(step / total)
        optimiser.zero_grad()
        objective(adapted, images).backward()
        optimiser.step()
        adapted.after_step(step)
    return adapted


@pytest.fixture
def made(tiny, base):
    def made(source: str, **values):
        config = base if source == "open_clip" else tiny(source)
        return adapt(load_model(config), adapter(**values), 0, keep_originals=True), config

    return made


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("source", ["open_clip", "blip"])
def test_every_trainable_parameter_moves_and_the_pretrained_model_comes_back(made, images, recipe, source) -> None:
    adapted, config = made(source, **RECIPES[recipe])
    before = load_model(config).encode_images(images)
    start = [value.detach().clone() for value in adapted.parameters()]
    train(adapted, images, kind=torch.optim.Adam)
    trained = adapted.model.encode_images(images).detach()
    assert (trained - before).abs().max() > 1e-4
    names = [name for name, value in adapted.model.named_parameters() if value.requires_grad]
    still = [name for name, a, b in zip(names, adapted.parameters(), start, strict=True) if torch.equal(a, b)]
    assert not [name for name in still if "vision_proj" not in name]
    with adapted.pretrained(), torch.no_grad():
        torch.testing.assert_close(adapted.model.encode_images(images), before, atol=2e-5, rtol=1e-4)
    assert torch.equal(adapted.model.encode_images(images), trained)
    assert all(value.requires_grad for value in adapted.parameters())


@pytest.mark.parametrize("recipe", RECIPES)
def test_state_continues_exactly(made, images, recipe, tmp_path: Path) -> None:
    whole, _ = made("open_clip", **RECIPES[recipe])
    train(whole, images)
    first, _ = made("open_clip", **RECIPES[recipe])
    train(first, images, range(3))
    save_file(first.state(), tmp_path / "state.safetensors")
    second, _ = made("open_clip", **RECIPES[recipe])
    second.load_state(load_file(tmp_path / "state.safetensors"))
    train(second, images, range(3, 6))
    assert torch.equal(second.model.encode_images(images), whole.model.encode_images(images))
    assert all(torch.equal(value, second.state()[name]) for name, value in whole.state().items())


SOURCES = ["open_clip", "clip", "siglip", "blip"]
EXPORTS = [
    *((recipe, "open_clip", "vision") for recipe in RECIPES if recipe != "norm before"),
    *(
        (recipe, source, "both")
        for recipe in ("advlora", "small")
        for source in ("open_clip", "clip", "siglip", "blip")
    ),
    *((recipe, "blip", "both") for recipe in ("rslora", "dora", "adalora", "full")),
    ("dora", "open_clip", "both"),
]


@pytest.mark.parametrize(("recipe", "source", "tower"), EXPORTS)
def test_exports_are_verified_and_loaded_back(made, images, recipe, source, tower, tmp_path: Path) -> None:
    values = RECIPES[recipe]
    if tower == "both" and "patch_embedding" in values.get("modules_to_save", ()):
        values = {**values, "modules_to_save": ["norms", "biases", "position_embedding"]}
    adapted, config = made(source, **values, tower=tower)
    train(adapted, images, range(3))
    expected = adapted.model.encode_images(images)
    paths = save_trained(adapted, config, adapted.config, tmp_path, images)
    adapters = {"adapter"}
    if source == "open_clip":
        adapters |= {"adapter-transformers"} | ({"adapter-text"} if tower == "both" else set())
    stock = adapted.layers and recipe != "small"
    assert set(paths) == {"merged"} | (adapters if stock else set())
    model, stored = load_trained(tmp_path)
    torch.testing.assert_close(model.encode_images(images), expected, atol=5e-5, rtol=1e-4)
    texts = adapted.model.encode_texts(CAPTIONS)
    torch.testing.assert_close(load_model(stored).encode_texts(CAPTIONS), texts, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["clip", "siglip", "blip"])
@pytest.mark.parametrize("recipe", ["advlora", "dora", "dora qv", "adalora"])
def test_adapter_loads_on_the_unchanged_transformers_model(made, images, family, recipe, tmp_path: Path) -> None:
    import transformers

    adapted, config = made(family, **RECIPES[recipe])
    train(adapted, images)
    paths = save_trained(adapted, config, adapted.config, tmp_path, images)
    kind = {"clip": "CLIPModel", "siglip": "SiglipModel", "blip": "BlipForImageTextRetrieval"}[family]
    stock = getattr(transformers, kind).from_pretrained(config.name.removeprefix("local-dir:")).eval()
    settings = PeftConfig.from_pretrained(str(paths["adapter"]))
    assert type(settings) is LoraConfig
    assert settings.use_dora == recipe.startswith("dora")
    PeftModel.from_pretrained(stock, str(paths["adapter"]))
    wrapped = load_for_adapter(config)
    wrapped.net = stock
    expected = adapted.model.encode_images(images)
    torch.testing.assert_close(wrapped.encode_images(images), expected, atol=5e-5, rtol=1e-4)


def test_merging_dora_is_the_formula(made, images) -> None:
    adapted, config = made("open_clip", **RECIPES["dora"])
    train(adapted, images)
    vision, plain = merged(adapted).vision, load_model(config).vision
    for name, layer in adapted.layers.items():
        b, a = layer.lora_B["default"].weight, layer.lora_A["default"].weight
        direction = plain.get_submodule(name).weight + layer.scaling["default"] * b @ a
        magnitude = layer.lora_magnitude_vector["default"].weight
        expected = magnitude[:, None] * direction / direction.norm(dim=1, keepdim=True)
        torch.testing.assert_close(vision.get_submodule(name).weight, expected, atol=1e-5, rtol=1e-4)


def test_dora_is_that_of_peft(made, images) -> None:
    adapted, config = made("open_clip", kind="dora", alpha=8)
    stock = get_peft_model(
        load_model(config).vision,
        LoraConfig(r=4, lora_alpha=8, use_dora=True, target_modules=list(adapted.layers)),
    )
    assert sum(p.numel() for p in stock.parameters() if p.requires_grad) == adapted.trainable


def test_adalora_is_that_of_peft(made, images) -> None:
    adapted, config = made("open_clip", kind="adalora", warmup=0.2, final=0.3)
    vision = load_model(config).vision
    settings = AdaLoraConfig(
        init_r=6, target_r=4, lora_alpha=6, tinit=2, tfinal=3, total_step=10, target_modules=list(adapted.layers)
    )
    stock = get_peft_model(vision, settings)
    values = dict(adapted.model.vision.named_parameters())
    for name, parameter in vision.named_parameters():
        parameter.data.copy_(values[name])
    train(adapted, images, range(10), 10)
    optimiser = torch.optim.SGD([p for p in stock.parameters() if p.requires_grad], lr=0.05)
    for step in range(10):
        optimiser.zero_grad()
        factors = [(n, p) for n, p in vision.named_parameters() if "lora_A" in n or "lora_B" in n]
        grams = [p @ p.T if "lora_A" in n else p.T @ p for n, p in factors]
        penalty = sum(torch.norm(gram - torch.eye(len(gram))) for gram in grams) / len(grams)
        (vision((images - 0.5) / 0.5).square().mean() + 0.5 * penalty).backward()
        optimiser.step()
        stock.base_model.update_and_allocate(step)
    torch.testing.assert_close(vision((images - 0.5) / 0.5), adapted.model.encode_images(images), atol=1e-5, rtol=1e-4)
    left = [int(layer.lora_E["default"].count_nonzero()) for layer in adapted.layers.values()]
    assert sum(left) == 4 * len(left)
    assert len(set(left)) > 1


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize(("warmup", "final"), [(0.0, 0.0), (0.6, 0.3), (0.1, 0.8)])
def test_adalora_fits_short_trainings(made, images, steps: int, warmup: float, final: float) -> None:
    adapted, _ = made("open_clip", kind="adalora", warmup=warmup, final=final)
    train(adapted, images, range(steps), steps)
    left = sum(int(layer.lora_E["default"].count_nonzero()) for layer in adapted.layers.values())
    assert left == (4 if steps > 1 else 6) * len(adapted.layers)


def test_pretrained_start_of_peft_follows_the_seed(base) -> None:
    def start(seed: int) -> dict[str, Tensor]:
        return adapt(load_model(base), adapter("dora", rank=8), seed).state()

    before = torch.random.get_rng_state()
    first, again, other = start(1), start(1), start(2)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_norm_before_is_no_linear_map_and_is_stored_natively(made, images, tmp_path: Path) -> None:
    adapted, config = made("open_clip", **RECIPES["norm before"])
    train(adapted, images)
    layer = next(iter(adapted.layers.values()))
    x = torch.randn(3, layer.in_features)
    norm = layer.lora_norm["default"]
    update = layer.lora_B["default"](layer.lora_A["default"](norm(x)))
    torch.testing.assert_close(layer(x), layer.get_base_layer()(x) + update)
    with pytest.raises(ExportError, match="not linear"):
        merged(adapted)
    assert set(save_trained(adapted, config, adapted.config, tmp_path, images)) == {"native"}
    model, _ = load_trained(tmp_path)
    assert torch.equal(model.encode_images(images), adapted.model.encode_images(images))


def test_a_text_tower_without_its_merged_model_is_refused(made, images, tmp_path: Path) -> None:
    from advlora.errors import ModelError

    adapted, config = made("clip", tower="both")
    save_trained(adapted, config, adapted.config, tmp_path, images)
    (tmp_path / "merged").rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="holds no merged/"):
        load_trained(tmp_path)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_scheduled_alpha_goes_from_initial_to_final(shape: str) -> None:
    config = AdaptiveConfig(mode="scheduled", initial=0.5, final=2.5, shape=shape)
    path = [scheduled_alpha(config, step / 10) for step in range(11)]
    assert path[0] == 0.5
    assert path[5] == pytest.approx(1.5)
    assert path[10] == pytest.approx(2.5)
    assert path == sorted(path)
    assert (path[1] == pytest.approx(0.7)) == (shape == "linear")


@pytest.mark.parametrize(("mode", "after"), [("scheduled", 1.25), ("fixed", 0.5)])
def test_alpha_that_is_not_learned_is_no_parameter(made, images, mode: str, after: float) -> None:
    adapted, _ = made("open_clip", adaptive={"mode": mode, "initial": 0.5, "per": "rank"})
    learned, _ = made("open_clip", adaptive={"per": "rank"})
    assert learned.trainable - adapted.trainable == 4 * len(adapted.layers)
    adapted.before_step(0.5)
    assert all(torch.equal(layer.adaptive_scale(), torch.full((4,), after)) for layer in adapted.layers.values())
    twin = copy.deepcopy(adapted)
    twin.before_step(1.0)
    assert all(torch.equal(layer.adaptive_scale(), torch.full((4,), after)) for layer in adapted.layers.values())
