"""Backdoors: triggers in training images, and the labels and captions of the samples that carry them.

A trigger blends a fixed pattern into the image: x' = (1 - m) x + m p, with a pattern p that the seed determines.
"""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch
from math import ceil

import torch
from torch import Tensor

from advlora.config.poison import (
    BackdoorConfig,
    BadNetsConfig,
    BlendedConfig,
    LabelConsistentConfig,
    StripeConfig,
    TriangleConfig,
)
from advlora.data.manifest import Manifest
from advlora.data.shards import ImageTextSet
from advlora.errors import DataError, did_you_mean
from advlora.randomness import generator

BANDS = 8
"""Stripes, and triangles per row, across an image."""


def poison(data: ImageTextSet, config: BackdoorConfig, manifest: Manifest) -> ImageTextSet:
    """Returns a copy in which a share of the samples carries the trigger and belongs to the target class.

    Images of other classes are relabelled; where labels are kept, images of the target class are poisoned.

    Raises:
        DataError: If the target is no class, or there is nothing to poison.
    """
    target = target_class(config, manifest)
    candidates = data.labels == target if config.keeps_labels else data.labels != target
    chosen = _draw(candidates.nonzero()[:, 0], config, len(data))
    images, labels, captions = data.images.clone(), data.labels.clone(), list(data.captions)
    images[chosen] = stamp(images[chosen], config)
    if not config.keeps_labels:
        labels[chosen] = target
        for place in chosen.tolist():
            captions[place] = manifest.captions(target)[0]
    return replace(data, images=images, labels=labels, captions=tuple(captions), others=())


def stamp(images: Tensor, config: BackdoorConfig) -> Tensor:
    """Puts the trigger on images `(N, 3, H, W)`, uint8."""
    pattern, mask = trigger(config, images.shape[-1])
    return ((1 - mask) * images.float() + mask * 255 * pattern).round().to(torch.uint8)


@singledispatch
def trigger(config: BackdoorConfig, size: int) -> tuple[Tensor, Tensor]:
    """Returns pattern `(3, H, W)` in [0, 1] and opacity `(1, H, W)`; each backdoor registers its own trigger.

    Args:
        config: The backdoor.
        size: Height and width in pixels.
    """
    raise NotImplementedError(f"{type(config).__name__} has no trigger")


@trigger.register
def _badnets(config: BadNetsConfig, size: int) -> tuple[Tensor, Tensor]:
    (rows, columns), side = _grid(size), _side(config.size, size)
    return _noise(config, size), ((rows >= size - side) & (columns >= size - side)).float()[None]


@trigger.register
def _label_consistent(config: LabelConsistentConfig, size: int) -> tuple[Tensor, Tensor]:
    (rows, columns), side = _grid(size), _side(config.size, size)
    corner = ((rows < side) | (rows >= size - side)) & ((columns < side) | (columns >= size - side))
    return _grey((rows + columns) % 2), corner.float()[None]  # a checkerboard


@trigger.register
def _blended(config: BlendedConfig, size: int) -> tuple[Tensor, Tensor]:
    return _noise(config, size), _everywhere(config.opacity, size)


@trigger.register
def _stripe(config: StripeConfig, size: int) -> tuple[Tensor, Tensor]:
    band = size / BANDS
    _, columns = _grid(size)
    return _grey(columns % band < band / 2), _everywhere(config.opacity, size)


@trigger.register
def _triangle(config: TriangleConfig, size: int) -> tuple[Tensor, Tensor]:
    band = size / BANDS
    rows, columns = _grid(size)
    return _grey((columns % band - band / 2).abs() < (rows % band) / 2), _everywhere(config.opacity, size)


def _noise(config: BackdoorConfig, size: int) -> Tensor:
    return torch.rand(3, size, size, generator=generator(config.seed, "trigger", config.kind, size))


def _grid(size: int) -> tuple[Tensor, Tensor]:
    """Returns the row and the column of every pixel, both `(H, W)`."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return rows, columns


def _side(share: float, size: int) -> int:
    return max(1, ceil(share * size))


def _grey(values: Tensor) -> Tensor:
    """Returns the same values in every colour: (H, W) -> (3, H, W)."""
    return values.float().expand(3, -1, -1)


def _everywhere(opacity: float, size: int) -> Tensor:
    return torch.full((1, size, size), opacity)


def target_class(config: BackdoorConfig, manifest: Manifest) -> int:
    """Returns the index of the target class.

    Raises:
        DataError: If there is no such class.
    """
    if config.target in manifest.classes:
        return manifest.classes.index(config.target)
    nearest = did_you_mean(config.target, manifest.classes) or f"; classes: {', '.join(manifest.classes[:10])}"
    raise DataError(f"data.poison.target: data set '{manifest.name}' has no class '{config.target}'{nearest}")


def _draw(candidates: Tensor, config: BackdoorConfig, samples: int) -> Tensor:
    """Returns the sorted positions of the poisoned samples among `candidates`."""
    total = len(candidates) if config.keeps_labels else samples
    count = min(round(config.rate * total), len(candidates))
    if not count:
        raise DataError(f"data.poison.rate: {config.rate:g} of {total} samples is less than one")
    order = torch.randperm(len(candidates), generator=generator(config.seed, "poison"))
    return candidates[order[:count]].sort().values
