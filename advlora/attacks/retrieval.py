"""Attacks on image-text retrieval.

An image is attacked against the whole set of its captions (set-level guidance, SGA, Lu et al. 2023): an attack on one
pair leaves the other captions of the image, which still find it. A caption is attacked by one other word (BERT-Attack,
Li et al. 2020, with the candidates of any source). Both together are SGA; with one scale, one caption per image and no
second look at the captions they are Co-Attack (Zhang et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from advlora.attacks.gradient import pgd
from advlora.attacks.threat import Threat
from advlora.models import VisionLanguageModel

Candidates = Callable[[Sequence[str], int], Iterable[str]]
"""The words of a caption and a position -> words that could stand there, for example of a masked language model."""


def attack_images(
    model: VisionLanguageModel,
    images: Tensor,
    captions: Tensor,
    own: Tensor,
    threat: Threat,
    generators: Iterable[torch.Generator],
    *,
    steps: int,
    step_size: float,
    scales: Sequence[float],
) -> Tensor:
    """Moves images away from all of their captions, at several scales (Lu et al. 2023, equation 2).

    Args:
        model: Gives the features.
        images: `(B, 3, H, W)` in [0, 1], or videos `(B, F, 3, H, W)`.
        captions: Features of all captions, `(T, D)`; those of other images do not matter.
        own: `(B, T)`, which captions belong to which images.
        threat: The ball of each image; in the literature L-inf of 2/255.
        generators: One per image, for the random start.
        steps: Number of gradients.
        step_size: Length of a step in the threat's norm.
        scales: Sizes at which the images must miss their captions, beside 1.

    Returns:
        Images in [0, 1], detached.
    """
    weights = own.float() / own.sum(1, keepdim=True).clamp_min(1)
    aims = weights @ normalize(captions, dim=-1)

    def distance(points: Tensor) -> Tensor:
        views = [points, *(_rescaled(points, scale) for scale in scales)]
        features = torch.stack([normalize(model.embed(view), dim=-1) for view in views])
        return -(features * aims).sum((0, -1))

    return pgd(distance, images, threat.draw(images, generators), threat, steps, step_size)


def _rescaled(points: Tensor, scale: float) -> Tensor:
    """Shows images at another size, and back at the size that the model takes."""
    frames = points.flatten(0, -4)
    small = interpolate(frames, scale_factor=scale, mode="bilinear", align_corners=False)
    return interpolate(small, size=points.shape[-2:], mode="bilinear", align_corners=False).view_as(points)


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
    steps: int,
    step_size: float,
    scales: Sequence[float],
    single: bool,
) -> tuple[Tensor, list[str]]:
    """Attacks captions against images, and images against those captions.

    Args:
        model: Gives the features.
        images: `(B, 3, H, W)` in [0, 1], or videos.
        captions: T of them.
        own: `(B, T)`, which captions belong to which images.
        threat: The ball of each image.
        generators: One per image, for the random start.
        candidates: Substitutes for a word.
        steps: Number of gradients.
        step_size: Length of a step in the threat's norm.
        scales: Beside 1.
        single: Whether an image moves away from its first caption only (Zhang et al. 2022, section 4); if not, from all
            of them, and the captions are attacked anew against what it became (Lu et al. 2023, section 4.2).

    Returns:
        Attacked images in [0, 1], and T captions.
    """
    changed = attack_captions(model, captions, _embedded(model, images), own, candidates)
    guides = own & (own.cumsum(1) == 1) if single else own
    texts = model.encode_texts(changed)
    attacked = attack_images(
        model, images, texts, guides, threat, generators, steps=steps, step_size=step_size, scales=scales
    )
    if single:
        return attacked, changed
    return attacked, attack_captions(model, captions, _embedded(model, attacked), own, candidates)


@torch.no_grad()
def _embedded(model: VisionLanguageModel, images: Tensor) -> Tensor:
    return model.embed(images)
