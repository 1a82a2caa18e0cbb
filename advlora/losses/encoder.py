"""The adapted model's forward passes in the precision of training, and the frozen teacher's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from advlora.adapters import AdaptedModel

TEXTS = 64
"""Captions whose graph is held at once."""


class Encoder:
    """What a loss may ask of the model."""

    def __init__(self, adapted: AdaptedModel, bf16: bool) -> None:
        """Takes the model, and whether its passes run in bf16."""
        self.adapted, self.model, self.bf16 = adapted, adapted.model, bf16

    def images(self, visual: Tensor) -> Tensor:
        """Embeds images `(B, 3, H, W)` or videos `(B, F, 3, H, W)` as `(B, D)`, not normalised."""
        with self._precision():
            return self.model.embed(visual)

    def texts(self, captions: Sequence[str]) -> Tensor:
        """Embeds captions as `(N, D)`, not normalised.

        Many of them are embedded part by part, and again part by part in the backward pass, so that the graph never
        holds more than one part.
        """
        parts = [captions[start : start + TEXTS] for start in range(0, len(captions), TEXTS)]
        if len(parts) == 1 or not torch.is_grad_enabled():
            return self._texts(captions)
        return torch.cat([checkpoint(self._texts, part, use_reentrant=False) for part in parts])

    def _texts(self, captions: Sequence[str]) -> Tensor:
        with self._precision():
            return self.model.embed_texts(captions)

    def tokens(self, images: Tensor) -> Tensor:
        """Returns the patch tokens of images, `(B, T, W)`."""
        with self._precision():
            return self.model.image_tokens(images)

    def project(self, tokens: Tensor) -> Tensor:
        """Embeds images by their tokens, `(B, D)`."""
        with self._precision():
            return self.model.embed_tokens(tokens)

    def match(self, tokens: Tensor, captions: Sequence[str]) -> Tensor:
        """Returns the logits of pairs of an image's tokens and a caption, `(B, 2)`: they do not match, they match."""
        with self._precision():
            return self.model.match(tokens, captions)

    @torch.no_grad()
    def teacher(self, visual: Tensor) -> Tensor:
        """Embeds images by the pretrained model, `(B, D)`."""
        with self.adapted.pretrained():
            return self.images(visual)

    @contextmanager
    def _precision(self) -> Iterator[None]:
        with torch.autocast(self.model.logit_scale.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            yield
