from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from advlora.config.losses import LOSSES
from advlora.data import ImageTextSet
from advlora.errors import DataError, ModelError
from advlora.losses import build_loss
from advlora.losses.parts import built
from tests.advlora.short_trials import trial

pytestmark = pytest.mark.unit


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
