"""Attacks on image-text retrieval, and what is left of it.

An image is attacked against the whole set of its captions (set-level guidance, SGA, Lu et al. 2023): an attack on one
pair leaves the other captions of the image, which still find it. A caption is attacked by one other word (BERT-Attack,
Li et al. 2020, with the candidates of any source). Both together are SGA; with one scale and one caption per image they
are Co-Attack (Zhang et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from advlora.attacks.gradient import pgd
from advlora.attacks.threat import Threat
from advlora.models import VisionLanguageModel

SCALES = (0.5, 0.75, 1.25, 1.5)
"""Sizes, beside 1, at which the image must miss its captions (Lu et al. 2023, section 4.2)."""
RANKS = (1, 5, 10)
Candidates = Callable[[Sequence[str], int], Iterable[str]]
"""The words of a caption and a position -> words that could stand there, for example of a masked language model."""


@dataclass(frozen=True)
class Retrieval:
    """Who finds whom.

    Attributes:
        texts: Rank k -> `(N,)`, true where an image has one of its captions among the k nearest captions (TR@k).
        images: Rank k -> `(T,)`, true where a caption has one of its images among the k nearest images (IR@k).
    """

    texts: dict[int, Tensor]
    images: dict[int, Tensor]

    def recalls(self) -> dict[str, float]:
        """Returns `tr@1 .. ir@10`."""
        return {name: found.double().mean().item() for name, found in self._rows().items()}

    def success_rates(self, attacked: Retrieval) -> dict[str, float]:
        """Returns, per rank, the share of queries that were right and are wrong after the attack."""
        rates = {}
        for name, before in self._rows().items():
            lost = before & ~attacked._rows()[name]
            rates[name] = (lost.sum() / before.sum().clamp_min(1)).item()
        return rates

    def _rows(self) -> dict[str, Tensor]:
        texts = {f"tr@{rank}": found for rank, found in self.texts.items()}
        return texts | {f"ir@{rank}": found for rank, found in self.images.items()}


def retrieve(images: Tensor, captions: Tensor, own: Tensor) -> Retrieval:
    """Ranks by cosine similarity, in both directions.

    Args:
        images: Features `(N, D)`.
        captions: Features `(T, D)`.
        own: `(N, T)`, which captions belong to which images.
    """
    scores = normalize(images, dim=-1) @ normalize(captions, dim=-1).T
    return Retrieval(_found(scores, own), _found(scores.T, own.T))


def _found(scores: Tensor, own: Tensor) -> dict[int, Tensor]:
    order = scores.argsort(dim=1, descending=True)
    right = own.gather(1, order)
    return {rank: right[:, :rank].any(1) for rank in RANKS}


def attack_images(
    model: VisionLanguageModel,
    images: Tensor,
    captions: Tensor,
    own: Tensor,
    threat: Threat,
    generators: Iterable[torch.Generator],
    *,
    steps: int = 10,
    step_size: float | None = None,
    scales: Sequence[float] = SCALES,
) -> Tensor:
    """Moves images away from all of their captions, at several scales (Lu et al. 2023, equation 2).

    Args:
        model: Gives the features.
        images: `(B, 3, H, W)` in [0, 1].
        captions: Features of all captions, `(T, D)`; those of other images do not matter.
        own: `(B, T)`, which captions belong to which images.
        threat: The ball of each image; in the literature L-inf of 2/255.
        generators: One per image, for the random start.
        steps: Number of gradients.
        step_size: None means 2.5 radii / steps, at most the radius.
        scales: Beside 1.

    Returns:
        Images in [0, 1], detached.
    """
    weights = own.float() / own.sum(1, keepdim=True).clamp_min(1)
    aims = weights @ normalize(captions, dim=-1)

    def distance(points: Tensor) -> Tensor:
        views = [points, *(_rescaled(points, scale) for scale in scales)]
        features = torch.stack([normalize(model.encode_images(view), dim=-1) for view in views])
        return -(features * aims).sum((0, -1))

    size = min(2.5 * threat.epsilon / steps, threat.epsilon) if step_size is None else step_size
    return pgd(distance, images, threat.draw(images, generators), threat, steps, size)


def _rescaled(points: Tensor, scale: float) -> Tensor:
    """Shows images at another size, and back at the size that the model takes."""
    small = interpolate(points, scale_factor=scale, mode="bilinear", align_corners=False)
    return interpolate(small, size=points.shape[-2:], mode="bilinear", align_corners=False)


def attack_captions(
    model: VisionLanguageModel, captions: Sequence[str], images: Tensor, own: Tensor, candidates: Candidates
) -> list[str]:
    """Replaces one word of each caption so that it misses its images (BERT-Attack, Li et al. 2020, algorithm 1).

    The word is the one without which the caption moves away most, its substitute the one that moves it away most.

    Args:
        model: Gives the features.
        captions: T of them.
        images: Features of all images, `(N, D)`.
        own: `(N, T)`, which captions belong to which images.
        candidates: Substitutes for a word.

    Returns:
        T captions; one that no candidate moves away stays as it is.
    """
    aims = normalize((own.float().T / own.sum(0)[:, None].clamp_min(1)) @ normalize(images, dim=-1), dim=-1)
    return [_attack_caption(model, caption, aim, candidates) for caption, aim in zip(captions, aims, strict=True)]


def _attack_caption(model: VisionLanguageModel, caption: str, aim: Tensor, candidates: Candidates) -> str:
    words = caption.split()
    if len(words) < 2:
        return caption
    without = [" ".join(words[:place] + words[place + 1 :]) for place in range(len(words))]
    place = int(_similarity(model, without, aim).argmin())
    variants = [
        " ".join([*words[:place], word, *words[place + 1 :]])
        for word in candidates(words, place)
        if word != words[place]
    ]
    options = [caption, *variants]
    return options[int(_similarity(model, options, aim).argmin())]


def _similarity(model: VisionLanguageModel, captions: Sequence[str], aim: Tensor) -> Tensor:
    return normalize(model.encode_texts(captions), dim=-1) @ aim


def attack_jointly(
    model: VisionLanguageModel,
    images: Tensor,
    captions: Sequence[str],
    own: Tensor,
    threat: Threat,
    generators: Iterable[torch.Generator],
    candidates: Candidates,
    *,
    steps: int = 10,
    scales: Sequence[float] = SCALES,
) -> tuple[Tensor, list[str]]:
    """Attacks captions against images, images against those captions, and captions anew (Lu et al. 2023, section 4.2).

    Returns:
        Images `(N, 3, H, W)` and T captions.
    """
    with torch.no_grad():
        clean = model.encode_images(images)
    first = attack_captions(model, captions, clean, own, candidates)
    targets = model.encode_texts(first)
    attacked = attack_images(model, images, targets, own, threat, generators, steps=steps, scales=scales)
    with torch.no_grad():
        features = model.encode_images(attacked)
    return attacked, attack_captions(model, captions, features, own, candidates)
