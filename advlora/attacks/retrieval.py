"""Attacks on image-text retrieval.

An image is attacked against the whole set of its captions (set-level guidance, SGA, Lu et al. 2023): an attack on one
pair leaves the other captions of the image, which still find it. A caption is attacked by one other word (BERT-Attack,
Li et al. 2020, with the candidates of any source). Both together are SGA; with one scale, one caption per image and no
second look at the captions they are Co-Attack (Zhang et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from advlora.attacks.finite import Watched, finite
from advlora.attacks.gradient import pgd
from advlora.attacks.threat import Threat
from advlora.models import VisionLanguageModel
from advlora.randomness import Streams

Candidates = Callable[[Sequence[str], int], Iterable[str]]
"""The words of a caption and a position -> words that could stand there, for example of a masked language model."""


@dataclass(frozen=True)
class RetrievalCase:
    """A batch of images under attack.

    Attributes:
        model: Gives the features.
        images: `(B, 3, H, W)` in [0, 1], or videos `(B, F, 3, H, W)`.
        own: `(B, T)`, which captions belong to which images.
        threat: The ball of each image; in the literature L-inf of 2/255.
        streams: One per image, for the random start.
        steps: Number of gradients.
        step_size: Length of a step in the threat's norm.
        scales: Sizes, beside 1, at which the images must miss their captions.
    """

    model: VisionLanguageModel
    images: Tensor
    own: Tensor
    threat: Threat
    streams: Streams
    steps: int
    step_size: float
    scales: Sequence[float] = ()


def attack_images(case: RetrievalCase, captions: Tensor) -> Tensor:
    """Moves images away from all of their captions, at several scales (Lu et al. 2023, equation 2).

    Args:
        case: The images.
        captions: Features of all captions, `(T, D)`; those of other images do not matter.

    Returns:
        Images in [0, 1], detached.

    Raises:
        NotFinite: If features or gradients are not finite.
    """
    weights = case.own.float() / case.own.sum(1, keepdim=True).clamp_min(1)  # (B, T), each row sums to 1
    aims = weights @ normalize(captions, dim=-1)  # (B, T) @ (T, D) -> (B, D)

    def distance(points: Tensor) -> Tensor:
        views = [points, *(_rescaled(points, scale) for scale in case.scales)]
        features = torch.stack([normalize(case.model.embed(view), dim=-1) for view in views])  # (V, B, D)
        return -(features * aims).sum((0, -1))  # (B,)

    start = case.threat.draw(case.images, case.streams)
    watched = Watched(distance, "features of images")
    attacked = pgd(watched, case.images, start, case.threat, case.steps, case.step_size)
    watched.check()
    return attacked


def _rescaled(points: Tensor, scale: float) -> Tensor:
    """Shows images at another size, and back at the size that the model takes."""
    frames = points.flatten(0, -4)  # (B, 3, H, W), or (B * F, 3, H, W) of videos
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
    weights = own.float().T / own.sum(0)[:, None].clamp_min(1)  # (T, N), each row sums to 1
    aims = normalize(weights @ normalize(images, dim=-1), dim=-1)  # (T, N) @ (N, D) -> (T, D)
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
    similarity = normalize(model.encode_texts(captions), dim=-1) @ aim  # (t, D) @ (D,) -> (t,)
    return finite(similarity, "features of captions")


def attack_jointly(
    case: RetrievalCase, captions: Sequence[str], candidates: Candidates, *, single: bool
) -> tuple[Tensor, list[str]]:
    """Attacks captions against images, and images against those captions.

    Args:
        case: The images.
        captions: T of them.
        candidates: Substitutes for a word.
        single: Whether an image moves away from its first caption only (Zhang et al. 2022, section 4); if not, from all
            of them, and the captions are attacked again, against what it became (Lu et al. 2023, section 4.2).

    Returns:
        Attacked images in [0, 1], and T captions.
    """
    changed = attack_captions(case.model, captions, _embedded(case.model, case.images), case.own, candidates)
    guides = case.own & (case.own.cumsum(1) == 1) if single else case.own  # (B, T)
    attacked = attack_images(replace(case, own=guides), case.model.encode_texts(changed))
    if single:
        return attacked, changed
    return attacked, attack_captions(case.model, captions, _embedded(case.model, attacked), case.own, candidates)


@torch.no_grad()
def _embedded(model: VisionLanguageModel, images: Tensor) -> Tensor:
    return finite(model.embed(images), "features of images")
