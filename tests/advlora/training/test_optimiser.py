from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from advlora.adapters.adapt import TrainedParameter
from advlora.config import OptimiserConfig
from advlora.models import Preprocessing
from advlora.training.optimiser import build_optimiser
from advlora.training.trainer import restore
from tests.advlora.short_trials import trial

pytestmark = pytest.mark.unit

OFF = {"adapter.alignment.enabled": False, "adapter.adaptive.enabled": False}
ADAPTERS = {
    "LoRA": {"adapter.init": "gaussian", **OFF},
    "AdvLoRA": {},
    "PiSSA": {"adapter.init": "pissa", **OFF},
    "DoRA": {"adapter.kind": "dora"},
    "AdaLoRA": {"adapter.kind": "adalora"},
}


def settings(**values) -> OptimiserConfig:
    return OptimiserConfig(learning_rate=0.1, **values)


def test_only_matrices_decay():
    layer, scale = nn.Linear(3, 2), nn.Parameter(torch.ones(()))
    trained = [TrainedParameter(parameter) for parameter in (layer.weight, layer.bias, scale)]
    optimiser = build_optimiser(trained, settings(weight_decay=0.1))
    decays = {id(parameter): group["weight_decay"] for group in optimiser.param_groups for parameter in group["params"]}
    assert decays == {id(layer.weight): 0.1, id(layer.bias): 0.0, id(scale): 0.0}


def test_parameters_of_one_kind_make_one_group():
    optimiser = build_optimiser([TrainedParameter(nn.Parameter(torch.ones(2, 2)))] * 1, settings())
    assert [group["lr"] for group in optimiser.param_groups] == [0.1]


def test_every_group_has_its_share_of_the_rate_also_after_loading_a_state():
    trained = [TrainedParameter(nn.Parameter(torch.ones(2, 2)), factor) for factor in (1.0, 10.0, 1.0)]
    optimiser = build_optimiser(trained, settings())
    assert [(len(group["params"]), group["lr"]) for group in optimiser.param_groups] == [(2, 0.1), (1, 1.0)]
    again = build_optimiser(trained, settings())
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    again.set_rate(0.5)
    assert [group["lr"] for group in again.param_groups] == [0.5, 5.0]


def test_decay_towards_a_start_is_adamw_with_the_start_as_origin():
    """With p = p0 + q, AdamW on q is what is wanted of p."""
    generator = torch.Generator().manual_seed(0)
    start, gradients = torch.randn(3, 4, generator=generator), torch.randn(6, 3, 4, generator=generator)
    parameter, shifted = nn.Parameter(start + 1), nn.Parameter(torch.ones(3, 4))
    ours = build_optimiser([TrainedParameter(parameter, 2.0, start)], settings(weight_decay=0.5))
    theirs = torch.optim.AdamW([shifted], lr=0.2, weight_decay=0.5)
    for gradient in gradients:
        parameter.grad, shifted.grad = gradient.clone(), gradient.clone()
        ours.step()
        theirs.step()
    torch.testing.assert_close(parameter.data, start + shifted.data)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_weight_decay_alone_keeps_the_pretrained_function(bench, kind):
    config = trial({"adapter.target": "all-linear", "optimiser.weight_decay": 0.05, **ADAPTERS[kind]})
    adapted = restore(config, bench)
    images = bench.split(config.data, "val", Preprocessing(28), 32).images.float() / 255
    expected = bench.model(config.model).encode_images(images)
    optimiser = build_optimiser(adapted.trained_parameters(), config.optimiser)
    for parameter in adapted.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(1000):
        optimiser.step()
    cosine = torch.nn.functional.cosine_similarity(adapted.model.encode_images(images), expected)
    assert float(cosine.min()) > 0.99999


def test_weight_decay_pulls_a_moved_adapter_back(bench):
    adapted = restore(trial(), bench)
    config = settings(weight_decay=1.0)
    for each in adapted.trained_parameters():
        each.parameter.data += 0.1
        each.parameter.grad = torch.zeros_like(each.parameter)
    optimiser = build_optimiser(adapted.trained_parameters(), config)
    for _ in range(50):
        optimiser.step()
    for each in adapted.trained_parameters():
        if each.start is not None:
            torch.testing.assert_close(each.parameter.data, each.start + 0.1 * 0.9**50, atol=1e-6, rtol=1e-5)
