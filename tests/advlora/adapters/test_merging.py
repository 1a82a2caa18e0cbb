"""A frozen model is the trained function at the pretrained model's price, and leaves no trace."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from advlora.adapters import AdaptedModel, adapt
from advlora.adapters.export import merged
from advlora.attacks.gradient import input_gradient
from advlora.models import load_model
from tests.advlora.short_trials import adapter

pytestmark = pytest.mark.unit

CAPTIONS = ["a photo of a cat", "the red boot", "dog"]
OFF = {"alignment": {"enabled": False}, "adaptive": {"enabled": False}}
LORA = {"init": "gaussian", **OFF}
LOW_RANK = {
    **{init: {"init": init} for init in ("kmeans", "gaussian", "norm_matched", "pissa", "milora")},
    "plain": LORA,
    "rslora": {**LORA, "rslora": True, "alpha": 3, "ranks": {"attention": 2}},
    "alpha per rank": {"adaptive": {"per": "rank", "initial": 0.5}},
    "scheduled": {"adaptive": {"mode": "scheduled", "initial": 0.5, "final": 2.0}},
    "dora": {"kind": "dora", "ranks": {"attention": 2}},
    "adalora": {"kind": "adalora"},
    "small": {"modules_to_save": ["norms", "biases"]},
    "dropout": {"dropout": 0.5},
}
OTHERS = {kind: {"kind": kind} for kind in ("full", "norms", "linear_probe", "none")}
OTHERS["norm before"] = {**LORA, "norm_before": True}
SOURCES = [("open_clip", "vision"), ("open_clip", "both"), ("clip", "both"), ("blip", "both")]


@dataclass(frozen=True)
class Outputs:
    """What a model says of images and of their captions."""

    images: Tensor
    texts: Tensor
    pairs: Tensor


@torch.no_grad()
def outputs(adapted: AdaptedModel, images: Tensor) -> Outputs:
    model = adapted.model
    images = images.repeat_interleave(model.image_size // 16, 2).repeat_interleave(model.image_size // 16, 3)
    return Outputs(
        model.encode_images(images), model.encode_texts(CAPTIONS), model.score_pairs(images[: len(CAPTIONS)], CAPTIONS)
    )


@pytest.fixture
def made(tiny, base):
    """Makes a model whose adapter was moved far enough to be seen."""

    def made(source: str = "open_clip", keep: bool = True, **values) -> AdaptedModel:
        config = base if source == "open_clip" else tiny(source)
        adapted = adapt(load_model(config), adapter(**values), 0, keep_originals=keep)
        adapted.model.eval()
        adapted.schedule(10)
        adapted.before_step(0.7)
        random = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for parameter in adapted.parameters():
                parameter += 0.05 * torch.randn(parameter.shape, generator=random)
        return adapted

    return made


def snapshot(adapted: AdaptedModel) -> dict[str, tuple[Tensor, Tensor, bool]]:
    """Every parameter: the object, a copy, and whether it is trained."""
    return {
        name: (parameter, parameter.detach().clone(), parameter.requires_grad)
        for name, parameter in adapted.model.named_parameters()
    }


def untouched(adapted: AdaptedModel, before: dict[str, tuple[Tensor, Tensor, bool]]) -> None:
    now = dict(adapted.model.named_parameters())
    assert list(now) == list(before)
    for name, (parameter, value, trained) in before.items():
        assert now[name] is parameter, name
        assert now[name].requires_grad == trained, name
        assert torch.equal(now[name], value), name


@contextmanager
def counted(adapted: AdaptedModel):
    """Bytes that the graphs built inside keep, each storage once, without those of parameters."""
    known = {parameter.untyped_storage().data_ptr() for parameter in adapted.model.parameters()}
    kept: dict[int, int] = {}
    alive = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # so that no address is given out twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


@pytest.mark.parametrize("recipe", LOW_RANK)
@pytest.mark.parametrize(("source", "tower"), SOURCES)
def test_frozen_is_the_trained_function_and_leaves_no_trace(made, images, source, tower, recipe) -> None:
    adapted = made(source, tower=tower, **LOW_RANK[recipe])
    before, trained = snapshot(adapted), outputs(adapted, images)
    with adapted.frozen():
        frozen = outputs(adapted, images)
        assert not any(parameter.requires_grad for parameter in adapted.model.parameters())
        assert all(layer.merged for layer in adapted.layers.values())
        with adapted.pretrained():
            start = outputs(adapted, images)
    for part in ("images", "texts", "pairs"):
        scale = getattr(trained, part).abs().max()
        torch.testing.assert_close(getattr(frozen, part), getattr(trained, part), atol=1e-5 * float(scale), rtol=0)
    assert (start.images - trained.images).abs().max() > 1e-3, "the adapter does nothing, so that the test says nothing"
    untouched(adapted, before)
    assert torch.equal(outputs(adapted, images).images, trained.images)


@pytest.mark.parametrize("recipe", OTHERS)
def test_what_cannot_be_merged_is_frozen_all_the_same(made, images, recipe) -> None:
    adapted = made(**OTHERS[recipe])
    before, trained = snapshot(adapted), outputs(adapted, images)
    with adapted.frozen():
        assert not any(parameter.requires_grad for parameter in adapted.model.parameters())
        assert torch.equal(outputs(adapted, images).images, trained.images)
        state = adapted.state()
    untouched(adapted, before)
    assert all(torch.equal(state[name], value) for name, value in adapted.state().items())


@pytest.mark.parametrize("recipe", ["kmeans", "plain", "dora", "adalora", "full"])
def test_the_pretrained_model_is_within_reach_inside(made, images, pretrained, recipe) -> None:
    adapted = made(**(LOW_RANK | OTHERS)[recipe])
    trained = outputs(adapted, images).images
    with adapted.frozen():
        frozen = outputs(adapted, images).images
        with adapted.pretrained(), adapted.frozen():
            start = outputs(adapted, images).images
        assert torch.equal(outputs(adapted, images).images, frozen)
        assert not any(parameter.requires_grad for parameter in adapted.model.parameters())
    torch.testing.assert_close(start, pretrained.encode_images(images), atol=2e-5, rtol=1e-4)
    assert torch.equal(outputs(adapted, images).images, trained)


def test_frozen_in_frozen_merges_once_and_an_error_ends_it(made, images) -> None:
    adapted = made(**LORA)
    before = snapshot(adapted)
    with adapted.frozen():
        once = outputs(adapted, images).images
        with adapted.frozen():
            assert torch.equal(outputs(adapted, images).images, once)
        assert torch.equal(outputs(adapted, images).images, once)
    for state in (adapted.frozen, adapted.pretrained):
        with pytest.raises(RuntimeError, match="broken"), adapted.frozen(), state():
            raise RuntimeError("broken")
        untouched(adapted, before)
    with adapted.frozen():
        assert torch.equal(outputs(adapted, images).images, once)


def test_graphs_keep_their_weights_across_the_border(made, images) -> None:
    adapted = made(**LORA)
    parameters = adapted.parameters()
    expected = torch.autograd.grad(adapted.model.encode_images(images).square().sum(), parameters)
    before = adapted.model.encode_images(images).square().sum()
    with adapted.frozen():
        own = images.clone().requires_grad_()
        inside = adapted.model.encode_images(own).square().sum()
        within = input_gradient(lambda points: adapted.model.encode_images(points).square().sum(1), images)
    found = torch.autograd.grad(before, parameters)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert torch.equal(torch.autograd.grad(inside, own)[0], within)


@pytest.mark.parametrize("recipe", ["kmeans", "plain", "dora", "adalora", "full", "linear_probe", "small"])
def test_an_attack_keeps_no_more_than_on_the_pretrained_model(made, images, pretrained, recipe) -> None:
    adapted = made(keep=False, **(LOW_RANK | OTHERS)[recipe])
    points = images.clone().requires_grad_()
    with counted(adapted) as beside:
        adapted.model.encode_images(points)
    with adapted.frozen(), counted(adapted) as frozen:
        adapted.model.encode_images(points)
    plain = AdaptedModel(pretrained, adapter(kind="none"), adapted.method, 1)
    with counted(plain) as base:
        plain.model.encode_images(points)
    assert sum(frozen.values()) == sum(base.values())
    assert sum(beside.values()) > sum(base.values())


@pytest.mark.parametrize("recipe", ["kmeans", "dora", "adalora"])
def test_what_is_shipped_are_the_weights_that_are_measured(made, recipe) -> None:
    adapted = made(tower="both", **LOW_RANK[recipe])
    shipped = merged(adapted)
    assert not any(parameter.requires_grad for parameter in shipped.parameters())
    with adapted.frozen():
        for name, layer in adapted.layers.items():
            place = shipped.tower("text" if name.startswith("text/") else "vision").module
            assert torch.equal(place.get_submodule(name.removeprefix("text/")).weight, layer.get_base_layer().weight)


def test_originals_follow_the_model_once(made) -> None:
    adapted = made(kind="full")
    adapted.model.double()
    seen = []
    for _ in range(2):
        with adapted.pretrained():
            seen.append([parameter.data for parameter in adapted.parameters()])  # alive, so that no address is reused
    assert all(one.dtype == torch.float64 for one in seen[0])
    assert all(one.data_ptr() == other.data_ptr() for one, other in zip(*seen, strict=True)), "copied again"
