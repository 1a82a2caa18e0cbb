"""Recall at K of image-text retrieval, and how many of the right queries an attack makes wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advlora.metrics import DEPTHS, MEAN_RECALL, recall_name


@dataclass(frozen=True)
class Ranks:
    """The outcome of every query: how many wrong answers come before the first right one.

    Attributes:
        texts: `(N,)`, of images that look for one of their captions (text retrieval, TR).
        images: `(T,)`, of captions that look for their image (image retrieval, IR).
    """

    texts: Tensor
    images: Tensor

    def worst(self, other: Ranks) -> Ranks:
        """Returns the worse outcome of each query: found at a depth is what both find there."""
        return Ranks(torch.maximum(self.texts, other.texts), torch.maximum(self.images, other.images))

    def recalls(self) -> dict[str, float]:
        """Returns by name the shares of queries with a right answer among the K best, and their mean; in [0, 1]."""
        found = {name: right.double().mean().item() for name, right in self._found().items()}
        return found | {MEAN_RECALL: sum(found.values()) / len(found)}

    def success_rates(self, attacked: Ranks) -> dict[str, float]:
        """Returns by name the share of the queries found here that are not found after an attack; 0 if none was."""
        after = attacked._found()
        return {
            name: ((before & ~after[name]).sum() / before.sum().clamp_min(1)).item()
            for name, before in self._found().items()
        }

    def _found(self) -> dict[str, Tensor]:
        texts = {recall_name("tr", depth): self.texts < depth for depth in DEPTHS}
        return texts | {recall_name("ir", depth): self.images < depth for depth in DEPTHS}


def ranks(by_image: Tensor, by_caption: Tensor, right: Tensor) -> Ranks:
    """Ranks the answers to all queries. Ties count against the model: one that scores everything alike finds nothing.

    Args:
        by_image: `(N, T)`, scores by which an image ranks the captions.
        by_caption: `(N, T)`, scores by which a caption ranks the images; the same where nothing is re-ranked.
        right: `(N, T)`, bool, which captions are right answers to which images; every image and caption has one.
    """
    return Ranks(text_ranks(by_image, right), image_ranks(by_caption, right))


def text_ranks(scores: Tensor, right: Tensor) -> Tensor:
    """Returns for each image how many wrong captions do not score below its best right one, `(N,)`.

    What cannot be compared, because it is not a number, thus counts against the model.
    """
    best = scores.masked_fill(~right, -torch.inf).amax(1, keepdim=True)  # (N, 1)
    return (~(scores < best) & ~right).sum(1)


def image_ranks(scores: Tensor, right: Tensor) -> Tensor:
    """Returns for each caption how many wrong images do not score below its best right one, `(T,)`."""
    return text_ranks(scores.T, right.T)
