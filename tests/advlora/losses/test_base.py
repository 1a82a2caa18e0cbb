from __future__ import annotations

import pytest
import torch

from advlora.losses import ClassCrossEntropy, Fare
from tests.advlora.losses.made_up import BATCH, CAPTION_IDS, COUNT, DIM, SCALE

pytestmark = pytest.mark.unit


def test_losses_are_fp32_even_of_bf16_features(contrastive, features):
    for loss in (contrastive, Fare(torch.zeros(COUNT, DIM)), ClassCrossEntropy(torch.eye(DIM), CAPTION_IDS, SCALE)):
        assert loss(features.bfloat16(), BATCH, BATCH).dtype == torch.float32


def test_an_empty_share_of_a_batch_has_no_loss(contrastive, features):
    none = torch.tensor([], dtype=torch.long)
    for loss in (contrastive, Fare(torch.zeros(COUNT, DIM)), ClassCrossEntropy(torch.eye(DIM), CAPTION_IDS, SCALE)):
        assert loss(features[:0], none, BATCH).shape == (0,)
