from __future__ import annotations

import pytest
import torch

from advlora.losses import Fare
from advlora.training.trainer import restore
from tests.advlora.losses.made_up import BATCH, COUNT, DIM
from tests.advlora.short_trials import trial

pytestmark = pytest.mark.unit


def test_fare_is_the_squared_distance_without_normalisation(random, features):
    targets = torch.randn(COUNT, DIM, generator=random)
    found = Fare(targets)(features, BATCH, BATCH)
    expected = [
        sum((a - b) ** 2 for a, b in zip(row.tolist(), targets[sample].tolist(), strict=True))
        for row, sample in zip(features, BATCH.tolist(), strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_fare_is_zero_on_clean_images_before_the_first_step(bench, set_of, built):
    config = trial({"loss.kind": "fare"})
    samples = torch.tensor([5, 40, 0])
    images = set_of(config).images[samples].float() / 255
    model = restore(config, bench).model
    clean, noisy = (
        built({"loss.kind": "fare"})(model.encode_images(points), samples, samples)
        for points in (images, (images + 0.1).clamp(0, 1))
    )
    assert clean.max() < 1e-5 < noisy.min()
