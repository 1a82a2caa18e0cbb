"""The threat model: a ball of perturbations around each image, within the pixel range [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from advlora.randomness import Streams

TINY = 1e-12
"""Keeps the direction of a vanishing gradient finite."""


@dataclass(frozen=True)
class Threat:
    """All images within `epsilon` of the clean one in the given norm, per image.

    Attributes:
        norm: `linf` bounds every pixel, `l2` the Euclidean length of the whole perturbation, over all frames.
        epsilon: Radius, in units of the pixel range [0, 1].
    """

    norm: Literal["linf", "l2"]
    epsilon: float

    def project(self, perturbed: Tensor, images: Tensor) -> Tensor:
        """Moves `perturbed` into the ball around `images` and into [0, 1]; both `(B, 3, H, W)` or `(B, F, 3, H, W)`.

        In L2 clamping comes last: it can only bring the point nearer to an image that itself lies in [0, 1].
        """
        delta = perturbed - images
        if self.norm == "linf":
            return (images + delta.clamp(-self.epsilon, self.epsilon)).clamp(0, 1)
        return (images + delta * (self.epsilon / _length(delta).clamp_min(TINY)).clamp_max(1)).clamp(0, 1)

    def direction(self, gradient: Tensor) -> Tensor:
        """Returns the steepest ascent of length 1 in the norm: the sign (L-inf), or the unit gradient (L2).

        What is not a number in the gradient gives no direction, so that no step leads out of the pixel range.
        """
        gradient = gradient.nan_to_num(nan=0.0)
        return gradient.sign() if self.norm == "linf" else gradient / _length(gradient).clamp_min(TINY)

    def size(self, delta: Tensor) -> Tensor:
        """Returns the norm of each perturbation, `(B,)`."""
        return delta.abs().flatten(1).amax(1) if self.norm == "linf" else _length(delta).flatten()

    def dual(self, gradient: Tensor) -> Tensor:
        """Returns the dual norm of each gradient, `(B,)`: what a step of length 1 gains at most."""
        return gradient.abs().flatten(1).sum(1) if self.norm == "linf" else _length(gradient).flatten()

    def draw(self, images: Tensor, streams: Streams) -> Tensor:
        """Draws uniformly from the ball, each image from its own stream.

        The noise of an image thus depends neither on its batch nor on the number of processes.

        Args:
            images: `(B, 3, H, W)`, or videos `(B, F, 3, H, W)`; gives shape and type.
            streams: B of them, on the images' device.

        Returns:
            Perturbations, of the images' shape.
        """
        if self.norm == "linf":
            return streams.uniform(*images.shape[1:], low=-self.epsilon, high=self.epsilon).to(images.dtype)
        size = images.shape[1:].numel()
        towards, share = streams.branch(0).normal(size), streams.branch(1).uniform(1).double()  # (B, d), (B, 1)
        # Volume grows with the d-th power of the radius, so its d-th root makes the draw uniform in the ball.
        radius = self.epsilon * share ** (1 / size)
        # In float64, so that the order in which a device adds the squares is lost in rounding.
        length = torch.linalg.vector_norm(towards, dim=1, keepdim=True, dtype=torch.float64)
        return towards.mul_((radius / length).float()).view_as(images).to(images.dtype)


def check_range(images: Tensor) -> None:
    """Refuses images outside [0, 1]: an attack on normalised pixels would mean another epsilon.

    Raises:
        ValueError: If a pixel lies outside, or is not a number.
    """
    if images.numel() and not bool(((images >= 0) & (images <= 1)).all()):
        raise ValueError("attacks need images in [0, 1]; normalisation belongs inside the model")


def _length(x: Tensor) -> Tensor:
    """Returns the Euclidean length of every image or video, `(B, 1, 1, 1)` or `(B, 1, 1, 1, 1)`."""
    length: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)  # (B,)
    return length.view(-1, *(1,) * (x.dim() - 1))
