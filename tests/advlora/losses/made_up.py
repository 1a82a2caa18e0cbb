"""A batch of made-up features, and a step of random images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from advlora.adapters import AdaptedModel
from advlora.losses import Contrastive, Step
from advlora.losses.captions import CaptionTable

COUNT, DIM, SCALE = 12, 6, torch.tensor(7.0)
BATCH = torch.tensor([3, 0, 7, 4, 11, 8])
CAPTION_IDS = torch.tensor([0, 1, 2, 0, 0, 3, 1, 4, 2, 2, 3, 4])
"""Samples 3, 0 and 4 of the batch share caption 0."""
CAPTIONS = ("a photo of a cat", "the red boot", "a dog", "the dress on a dog")


def unit(random: torch.Generator, count: int) -> Tensor:
    return normalize(torch.randn(count, DIM, generator=random), dim=-1)


def table(captions: Sequence[str | Sequence[str]] = CAPTIONS, seed: int = 0) -> CaptionTable:
    references = [(caption,) if isinstance(caption, str) else caption for caption in captions]
    return CaptionTable(references, seed, torch.device("cpu"))


def contrastive_of(texts: Tensor, adapted: AdaptedModel, **options: Any) -> Contrastive:
    captions = table()
    return Contrastive(texts, captions.ids, adapted.model.logit_scale, table=captions, **options)


def perturb(adapted: AdaptedModel) -> None:
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=source)


def step(size: int = 4) -> Step:
    images = torch.rand(size, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    return Step(images, torch.arange(size), torch.arange(size))
