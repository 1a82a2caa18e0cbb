"""Re-ranking: a matching head reorders the best candidates of every query (Li et al. 2022, section 5.1).

The score is the published one: the logit of "they match" plus the cosine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from advlora.attacks import finite
from advlora.models import VisionLanguageModel

TEXTS = 128
"""Captions that a matching head scores at once."""


def candidates(similarity: Tensor, count: int, dim: int) -> Tensor:
    """Returns which pairs of `(N, T)` are among the best of their image (`dim` 1) or caption (`dim` 0)."""
    best = similarity.topk(min(count, similarity.shape[dim]), dim).indices  # (N, count), or (count, T)
    return torch.zeros_like(similarity, dtype=torch.bool).scatter_(dim, best, True)  # (N, T)


def first(similarity: Tensor, scores: Tensor, chosen: Tensor) -> Tensor:
    """Orders the chosen pairs by `scores`, above all others.

    Args:
        similarity: `(N, T)`; orders the pairs that are not chosen.
        scores: `(N, T)`: similarity plus matching score.
        chosen: `(N, T)`, bool.
    """
    lift = similarity.max() - scores.min() + 1  # puts the lowest chosen pair above the best of the others
    return torch.where(chosen, scores + lift, similarity)


@torch.no_grad()
def matching(
    model: VisionLanguageModel, images: Mapping[int, Tensor], captions: Sequence[str], wanted: Tensor
) -> Tensor:
    """Scores pairs by the matching head: its logit of "they match" (Li et al. 2022, `train_retrieval.py`).

    Args:
        model: Has a matching head.
        images: Position -> image `(3, H, W)`; those of this process.
        captions: T of them.
        wanted: `(N, T)`, bool, the pairs that are scored.

    Returns:
        `(N, T)`, zero for pairs that are not wanted or of other processes.

    Raises:
        NotFinite: If a score is not finite.
    """
    scores = torch.zeros(wanted.shape, device=wanted.device)
    for place, image in images.items():
        tokens = model.image_tokens(image[None].to(wanted.device))  # (1, tokens, width)
        for part in torch.split(wanted[place].nonzero()[:, 0], TEXTS):  # (t,), numbers of captions
            some = [captions[number] for number in part.tolist()]
            logits = model.match(tokens.expand(len(some), -1, -1), some).float()  # (t, 2)
            scores[place, part] = logits[:, 1]
    return finite(scores, "matching scores")
