"""Recall at K of image-text retrieval."""

from __future__ import annotations

import torch
from torch import Tensor

DEPTHS = (1, 5, 10)


def recalls(by_image: Tensor, by_caption: Tensor, owner: Tensor) -> dict[str, float]:
    """Returns recall at 1, 5 and 10 in both directions, and their mean.

    Ties count against the model: one that scores everything alike finds nothing.

    Args:
        by_image: `(N, T)`, scores by which an image ranks the captions.
        by_caption: `(N, T)`, scores by which a caption ranks the images; the same where nothing is re-ranked.
        owner: `(T,)`, image of each caption; every image has at least one.

    Returns:
        `tr_r1` ... `tr_r10`: images for which one of their own captions is among the K best (text retrieval).
        `ir_r1` ... `ir_r10`: captions for which their image is. `mean_recall`: mean of the six. All in [0, 1].
    """
    found: dict[str, float] = {}
    for name, ranks in (("tr", text_ranks(by_image, owner)), ("ir", image_ranks(by_caption, owner))):
        found |= {f"{name}_r{depth}": (ranks < depth).double().mean().item() for depth in DEPTHS}
    return found | {"mean_recall": sum(found.values()) / len(found)}


def text_ranks(scores: Tensor, owner: Tensor) -> Tensor:
    """Returns for each image how many foreign captions score at least as high as its best own one, `(N,)`."""
    own = owner[None] == torch.arange(len(scores), device=scores.device)[:, None]
    best = scores.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
    return ((scores >= best) & ~own).sum(1)


def image_ranks(scores: Tensor, owner: Tensor) -> Tensor:
    """Returns for each caption how many foreign images score at least as high as its own, `(T,)`."""
    right = scores[owner, torch.arange(scores.shape[1], device=scores.device)]
    return (scores >= right[None]).sum(0) - 1
