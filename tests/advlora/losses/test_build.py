from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from advlora.adapters import adapt
from advlora.config import EvaluationProtocol, TrialConfig, leaves, parse, vary
from advlora.config.losses import LOSSES
from advlora.data import ImageTextSet
from advlora.errors import DataError, ModelError
from advlora.losses import build_loss
from advlora.losses.parts import built
from advlora.training.trainer import fine_tune
from advlora.training.workbench import Workbench
from tests.advlora.short_trials import trial

pytestmark = pytest.mark.unit

PROTOCOL = parse(
    EvaluationProtocol, {"samples": {"val": 8, "test": 8}, "attacks": [{"steps": 1}], "interval": 0, "batch_size": 8}
)
TRAININGS = {
    "trades": ("clip", {"loss": {"kind": "trades"}}),
    "pmg_aft": ("siglip", {"loss": {"kind": "pmg_aft"}, "adapter": {"kind": "full"}}),
    "itm": ("blip", {"loss": {"kind": "itm"}}),
    "itc and itm": ("blip", {"loss": {"kind": "contrastive", "itm": 1.0}, "adapter": {"tower": "both"}}),
    "text": ("clip", {"adapter": {"tower": "text"}}),
    "universal": ("clip", {"attack": {"kind": "universal"}, "adapter": {"kind": "adalora"}}),
    "scheduled": (
        "clip",
        {"adapter": {"adaptive": {"mode": "scheduled"}, "modules_to_save": ["norms"]}, "precision": "bf16"},
    ),
}


def data(*shape: int) -> ImageTextSet:
    return ImageTextSet(torch.zeros(shape), torch.zeros(1), ("a",))


def adapted(*, matches: bool) -> SimpleNamespace:
    return SimpleNamespace(model=SimpleNamespace(matches=matches, logit_scale=torch.tensor(1.0)))


@pytest.mark.parametrize("kind", LOSSES)
def test_every_loss_has_its_builder(kind: str) -> None:
    assert built.dispatch(LOSSES[kind]) is not built.dispatch(object)


@pytest.mark.parametrize(("matches", "shape"), [(False, (1, 3, 4, 4)), (True, (1, 2, 3, 4, 4))])
def test_matching_needs_a_head_and_images(matches: bool, shape: tuple[int, ...]) -> None:
    for values in ({"loss.kind": "itm"}, {"loss.kind": "contrastive", "loss.itm": 0.5}):
        with pytest.raises(ModelError, match="needs images, and a model with a matching head"):
            build_loss(trial(values), SimpleNamespace(), data(*shape), adapted(matches=matches))


def test_views_are_made_of_images_not_of_videos() -> None:
    with pytest.raises(DataError, match="'cleanclip' needs images, but data set 'fashion-mnist' holds videos"):
        build_loss(trial({"loss.kind": "cleanclip"}), SimpleNamespace(), data(1, 2, 3, 4, 4), adapted(matches=False))


@pytest.mark.parametrize("name", TRAININGS)
def test_training_continues_exactly(tiny, name: str) -> None:
    family, values = TRAININGS[name]
    small = {"data": {"train_samples": 24}, "optimiser": {"batch_size": 8, "epochs": 2}, "adapter": {"rank": 2}}
    base = {**small, "model": tiny(family).model_dump()}
    config = parse(TrialConfig, vary(TrialConfig, base, dict(leaves(values))))
    bench = Workbench()
    first, last = fine_tune(config, PROTOCOL, bench=bench)
    (again,) = fine_tune(config, PROTOCOL, bench=bench, state=first.state)
    assert all(torch.equal(value, again.state["adapter"][key]) for key, value in last.state["adapter"].items())
    assert {key: value for key, value in last.metrics.items() if "cost" not in key} == {
        key: value for key, value in again.metrics.items() if "cost" not in key
    }
    start = adapt(bench.model(config.model), config.adapter, config.seed).state()
    assert any(not torch.equal(value, last.state["adapter"].get(key)) for key, value in start.items())
