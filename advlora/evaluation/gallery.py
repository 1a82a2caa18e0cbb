"""`Gallery`: all captions of a set, among which images are looked for and which look for images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

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
        texts: `(T,)`, equal for captions that were equal before an attack changed their words.
        features: `(T, D)`, unit length.
    """

    captions: tuple[str, ...]
    owner: Tensor
    texts: Tensor = field(repr=False)
    features: Tensor = field(repr=False)

    def own(self, positions: Tensor) -> Tensor:
        """Returns which captions belong to the images at `positions`, `(B, T)`."""
        return self.owner[None] == positions.to(self.owner.device)[:, None]  # (1, T) == (B, 1) -> (B, T)

    def right(self, positions: Tensor) -> Tensor:
        """Returns which captions are right answers to the images at `positions`, `(B, T)`.

        These are their own, and those of other images that say the same: no model could tell them apart.
        """
        return self._says[positions.to(self.owner.device)][:, self.texts]  # (N, U) -> (B, U) -> (B, T)

    @cached_property
    def _says(self) -> Tensor:
        """Which of U distinct texts an image has as a caption, `(N, U)`."""
        shape = (int(self.owner.max()) + 1, int(self.texts.max()) + 1)
        says = torch.zeros(shape, dtype=torch.bool, device=self.owner.device)
        says[self.owner, self.texts] = True
        return says

    @torch.no_grad()
    def changed(self, model: VisionLanguageModel, captions: Sequence[str]) -> Gallery:
        """Returns the gallery after an attack on its captions: T others, which belong where the old ones did."""
        return replace(self, captions=tuple(captions), features=_features(model, captions))


def gallery(model: VisionLanguageModel, data: ImageTextSet) -> Gallery:
    """Embeds all captions of a set by the model's text tower as it is."""
    captions = tuple(caption for own in data.references for caption in own)
    counts = torch.tensor([len(own) for own in data.references])
    numbers = {caption: number for number, caption in enumerate(dict.fromkeys(captions))}
    owner = torch.arange(len(data)).repeat_interleave(counts).to(model.logit_scale.device)
    texts = torch.tensor([numbers[caption] for caption in captions], device=owner.device)
    return Gallery(captions, owner, texts, _features(model, captions))


def _features(model: VisionLanguageModel, captions: Sequence[str]) -> Tensor:
    return finite(normalize(model.encode_texts(captions).float(), dim=-1), "features of captions")  # (T, D)
