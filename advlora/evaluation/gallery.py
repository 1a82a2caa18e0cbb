"""`Gallery`: all captions of a set, among which images are looked for and which look for images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import normalize

from advlora.attacks import finite
from advlora.data import ImageTextSet
from advlora.models import VisionLanguageModel


@dataclass(frozen=True)
class Gallery:
    """All captions of a set.

    Attributes:
        captions: All captions of the first image, then of the second, and so on: T of them.
        owner: `(T,)`, image of each caption.
        features: `(T, D)`, unit length.
    """

    captions: tuple[str, ...]
    owner: Tensor
    features: Tensor = field(repr=False)

    def own(self, positions: Tensor) -> Tensor:
        """Returns which captions belong to the images at `positions`, `(B, T)`."""
        return self.owner[None] == positions.to(self.owner.device)[:, None]  # (1, T) == (B, 1) -> (B, T)


def gallery(model: VisionLanguageModel, data: ImageTextSet) -> Gallery:
    """Embeds all captions of a set by the model's text tower as it is."""
    captions = [caption for own in data.references for caption in own]
    counts = torch.tensor([len(own) for own in data.references])
    owner = torch.arange(len(data)).repeat_interleave(counts).to(model.logit_scale.device)
    return embedded(model, captions, owner)


@torch.no_grad()
def embedded(model: VisionLanguageModel, captions: Sequence[str], owner: Tensor) -> Gallery:
    """Embeds captions whose owners are known.

    Raises:
        NotFinite: If a caption has no finite features.
    """
    features = normalize(model.encode_texts(captions).float(), dim=-1)  # (T, D)
    return Gallery(tuple(captions), owner, finite(features, "features of captions"))
