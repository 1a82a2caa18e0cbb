from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from advlora.adapters import AdaptedModel, adapt
from advlora.config import TrialConfig
from advlora.data import ImageTextSet
from advlora.losses import Contrastive, Loss, build_loss
from advlora.models import Preprocessing, load_model
from advlora.training.trainer import restore
from tests.advlora.losses.made_up import BATCH, CAPTION_IDS, DIM, SCALE, unit
from tests.advlora.short_trials import adapter, trial


@pytest.fixture
def made(tiny) -> Callable[..., AdaptedModel]:
    def made(family: str = "clip", **values) -> AdaptedModel:
        return adapt(load_model(tiny(family)), adapter(**values), 0, keep_originals=True)

    return made


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(2)


@pytest.fixture
def features(random) -> Tensor:
    return 3 * torch.randn(len(BATCH), DIM, generator=random)


@pytest.fixture
def contrastive(random) -> Contrastive:
    return Contrastive(unit(random, 5), CAPTION_IDS, SCALE)


@pytest.fixture
def set_of(bench) -> Callable[[TrialConfig], ImageTextSet]:
    return lambda config: bench.split(config.data, "train", Preprocessing(28), config.data.train_samples)


@pytest.fixture
def built(bench, set_of) -> Callable[..., Loss]:
    def built(values):
        config = trial(values)
        return build_loss(config, bench, set_of(config), restore(config, bench))

    return built
