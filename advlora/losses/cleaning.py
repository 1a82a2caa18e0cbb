"""Losses that clean a poisoned model by fine-tuning it on trusted pairs: CleanCLIP and Perturb and Recover."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, normalize

from advlora.config.losses import CleanClipConfig, ParConfig
from advlora.losses.base import Loss, Step
from advlora.losses.captions import Contrastive, captions_of, contrastive
from advlora.losses.encoder import Encoder
from advlora.losses.parts import Parts, built
from advlora.randomness import Streams

ZOOM, SHIFT, LIGHT = 0.25, 0.2, 0.4
"""Largest change of a view: zoom, shift (as a share of half the side), and brightness and contrast."""


class _Cleaning(Loss):
    """A contrastive loss and a term that cleans the model."""

    def __init__(self, contrastive: Contrastive, weight: float) -> None:
        """Takes the loss that keeps the model useful, and the weight of the other term."""
        self.contrastive, self.weight = contrastive, weight

    def __call__(self, features: Tensor, samples: Tensor, batch: Tensor) -> Tensor:
        """See `Loss`; what the attacker maximises."""
        return self.contrastive(features, samples, batch)

    def start_epoch(self, epoch: int) -> None:
        """See `Loss`."""
        self.contrastive.start_epoch(epoch)

    def embed_texts(self, encoder: Encoder, step: Step) -> None:
        """See `Loss`."""
        self.contrastive.embed_texts(encoder, step)

    def prepare(self, encoder: Encoder, step: Step, *, update: bool) -> None:
        """See `Loss`."""
        self.contrastive.prepare(encoder, step, update=update)


class CleanClip(_Cleaning):
    """CleanCLIP (Bansal et al. 2023, equation 3), image side only: a trigger must not decide an embedding.

    l_i = contrastive_i + w (logsumexp_j s(x_i, v_j) - s(x_i, v_i)), s = scale times cosine of the embeddings of images
    x and of their augmented views v. The paper also augments the captions; here the texts are left as they are.
    """

    def __init__(self, contrastive: Contrastive, weight: float, scale: Tensor, seed: int) -> None:
        """Takes the contrastive loss, the weight w, the logit scale and the seed of the views."""
        super().__init__(contrastive, weight)
        self.scale, self.seed, self.epoch = scale, seed, 0

    def start_epoch(self, epoch: int) -> None:
        """See `Loss`."""
        super().start_epoch(epoch)
        self.epoch = epoch

    def objective(self, encoder: Encoder, images: Tensor, step: Step) -> Tensor:
        """See `Loss`."""
        features = encoder.images(images)
        views = normalize(encoder.images(augmented(step.clean, step.samples, self.seed, self.epoch)).float(), dim=-1)
        images = self.scale * normalize(features.float(), dim=-1)  # (b, D), as are `views`
        towards_views = images @ self.contrastive.group.rows(views, len(step.batch)).T  # (b, D) @ (D, B)
        alike = towards_views.logsumexp(-1) - (images * views).sum(-1)  # (b,)
        return self(features, step.samples, step.batch) + self.weight * alike


class PerturbAndRecover(_Cleaning):
    """Perturb and Recover (PAR, Singh et al. 2024), image side only: unlearn the poisoned embedding.

    l_i = contrastive_i - w min(||f_i - p_i||^2, t), with unit embeddings f of the model and p of the poisoned one. Once
    an image is as far away as t, only the contrastive loss is left. The paper compares the mean of a batch with t, here
    each image is, so that its loss does not depend on how a batch is split between processes.
    """

    def __init__(self, contrastive: Contrastive, weight: float, poisoned: Tensor, until: float) -> None:
        """Takes the contrastive loss, the weight w, embeddings of the poisoned model `(N, D)`, and t."""
        super().__init__(contrastive, weight)
        self.poisoned, self.until = normalize(poisoned.float(), dim=-1), until

    def objective(self, encoder: Encoder, images: Tensor, step: Step) -> Tensor:
        """See `Loss`."""
        features = encoder.images(images)
        distance = (normalize(features.float(), dim=-1) - self.poisoned[step.samples]).square().sum(-1)  # (b,)
        return self(features, step.samples, step.batch) - self.weight * distance.clamp(max=self.until)


@torch.no_grad()
def augmented(images: Tensor, samples: Tensor, seed: int, epoch: int) -> Tensor:
    """Returns a random view of each image `(B, 3, H, W)` in [0, 1].

    A view is mirrored or not, zoomed in, shifted, and changed in brightness and contrast. Its random numbers depend on
    seed, epoch and sample only.
    """
    drawn = Streams.of(seed, "view", epoch, samples=samples).uniform(6).to(images)  # (B, 6)
    flip, zoom, right, down, contrast, brightness = drawn.unbind(1)  # six (B,)
    size = 1 - ZOOM * zoom  # share of the image that the view shows
    # Affine maps from the view's coordinates to the image's, both in [-1, 1]: rows (B, 3) of x and y -> (B, 2, 3)
    rows = [torch.stack([size * (2 * (flip < 0.5) - 1), 0 * size, SHIFT * (2 * right - 1)], 1)]
    rows.append(torch.stack([0 * size, size, SHIFT * (2 * down - 1)], 1))
    grid = affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)  # (B, H, W, 2)
    moved = grid_sample(images, grid, padding_mode="border", align_corners=False)  # (B, 3, H, W)
    contrast, brightness = (1 + LIGHT * (2 * each - 1)[:, None, None, None] for each in (contrast, brightness))
    mean = moved.mean((1, 2, 3), keepdim=True)  # (B, 1, 1, 1), as are contrast and brightness
    return (brightness * (mean + contrast * (moved - mean))).clamp(0, 1)


@built.register
def _cleanclip(loss: CleanClipConfig, parts: Parts) -> Loss:
    return CleanClip(contrastive(*captions_of(parts), parts), loss.self_weight, parts.scale, parts.config.seed)


@built.register
def _par(loss: ParConfig, parts: Parts) -> Loss:
    contrast = contrastive(*captions_of(parts), parts)
    return PerturbAndRecover(contrast, loss.push_weight, parts.pretrained_images(), loss.push_until)
