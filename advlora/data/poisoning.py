"""Backdoors: triggers in training images, and what their samples are called.

A trigger blends a fixed pattern into the image: x' = (1 - m) x + m p, with a pattern p that the seed determines.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import torch
from torch import Tensor

from advlora.config import PoisonConfig
from advlora.data.manifest import Manifest
from advlora.data.shards import ImageTextSet
from advlora.errors import DataError, did_you_mean
from advlora.randomness import generator

BANDS = 8
"""Stripes, and triangles per row, across an image."""


def poison(data: ImageTextSet, config: PoisonConfig, manifest: Manifest) -> ImageTextSet:
    """Returns a copy in which a share of the samples carries the trigger.

    All kinds but one call the poisoned samples by the target class. `label_consistent` poisons images of the target
    class only and changes no label (Turner et al. 2019; without their adversarial perturbation of the images); its
    rate is a share of that class.

    Raises:
        DataError: If the target is no class, or there is nothing to poison.
    """
    target = target_class(config, manifest)
    candidates = data.labels == target if config.kind == "label_consistent" else data.labels != target
    chosen = _draw(candidates.nonzero()[:, 0], config, len(data))
    images, labels, captions = data.images.clone(), data.labels.clone(), list(data.captions)
    images[chosen] = stamp(images[chosen], config)
    if config.kind != "label_consistent":
        labels[chosen] = target
        for place in chosen.tolist():
            captions[place] = manifest.captions(target)[0]
    return replace(data, images=images, labels=labels, captions=tuple(captions), others=())


def stamp(images: Tensor, config: PoisonConfig) -> Tensor:
    """Puts the trigger on images `(N, 3, H, W)`, uint8."""
    pattern, mask = trigger(config, images.shape[-1])
    return ((1 - mask) * images.float() + mask * 255 * pattern).round().to(torch.uint8)


def trigger(config: PoisonConfig, size: int) -> tuple[Tensor, Tensor]:
    """Returns pattern `(3, H, W)` in [0, 1] and opacity `(1, H, W)`.

    `badnets`: a patch in the lower right corner (Gu et al. 2017). `blended`: noise over the whole image (Chen et al.
    2017). `stripe` and `triangle`: structured patterns over the whole image, which defences that look for patches and
    noise miss (Perturb and Recover, Singh et al. 2024). `label_consistent`: patches in all four corners.
    """
    noise = torch.rand(3, size, size, generator=generator(config.seed, "trigger", config.kind, size))
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    side = max(1, ceil(config.size * size))
    if config.kind == "badnets":
        return noise, ((rows >= size - side) & (columns >= size - side)).float()[None]
    if config.kind == "label_consistent":
        corner = ((rows < side) | (rows >= size - side)) & ((columns < side) | (columns >= size - side))
        return ((rows + columns) % 2).float().expand(3, -1, -1), corner.float()[None]
    opacity = torch.full((1, size, size), config.opacity)
    if config.kind == "blended":
        return noise, opacity
    band = size / BANDS
    inside = columns % band
    drawn = inside < band / 2 if config.kind == "stripe" else (inside - band / 2).abs() < (rows % band) / 2
    return drawn.float().expand(3, -1, -1), opacity


def target_class(config: PoisonConfig, manifest: Manifest) -> int:
    """Returns the index of the target class.

    Raises:
        DataError: If there is no such class.
    """
    if config.target in manifest.classes:
        return manifest.classes.index(config.target)
    nearest = did_you_mean(config.target, manifest.classes) or f"; classes: {', '.join(manifest.classes[:10])}"
    raise DataError(f"data.poison.target: data set '{manifest.name}' has no class '{config.target}'{nearest}")


def _draw(candidates: Tensor, config: PoisonConfig, samples: int) -> Tensor:
    of = len(candidates) if config.kind == "label_consistent" else samples
    count = min(round(config.rate * of), len(candidates))
    if not count:
        raise DataError(f"data.poison.rate: {config.rate:g} of {of} samples is less than one")
    order = torch.randperm(len(candidates), generator=generator(config.seed, "poison"))
    return candidates[order[:count]].sort().values
