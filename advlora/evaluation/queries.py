"""Retrieval as a classifier: what is asked about a batch of images, as logits and as a mask of the right answers.

The attacks on classes then run on it as they are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from advlora.attacks import objective
from advlora.config.attack_base import Direction
from advlora.evaluation.gallery import Gallery
from advlora.models import VisionLanguageModel


class Queries(ABC):
    """The queries of a batch that an attacked image spoils.

    Attributes:
        labels: Which answers are right, of the shape of the logits.
    """

    labels: Tensor

    def __init__(self, model: VisionLanguageModel, images: Tensor) -> None:
        """Takes the evaluated model, and images `(B, 3, H, W)` or videos `(B, F, 3, H, W)`."""
        self.model, self.shape = model, images.shape[1:]

    def __call__(self, points: Tensor) -> Tensor:
        """Returns the logits of points, `(B, 3, H, W)`, or of videos with all frames in channels, `(B, 3F, H, W)`."""
        features = self.model.embed(points.view(len(points), *self.shape)).float()  # (B, D)
        return self.logits(self.model.logit_scale * normalize(features, dim=-1))

    def margin(self, points: Tensor) -> Tensor:
        """Returns how far the points are from being answered correctly, `(B,)`; positive once they are not."""
        with torch.no_grad():
            return objective("margin", self(points), self.labels)

    @abstractmethod
    def logits(self, features: Tensor) -> Tensor:
        """Returns the logits of scaled image features `(B, D)`."""


class ImageToText(Queries):
    """Images look for one of their captions: logits over all captions, `(B, T)`."""

    def __init__(self, model: VisionLanguageModel, gallery: Gallery, images: Tensor, positions: Tensor) -> None:
        """Asks about the images at `positions`, `(B,)`."""
        super().__init__(model, images)
        self.texts, self.labels = gallery.features, gallery.right(positions)  # (T, D), (B, T)

    def logits(self, features: Tensor) -> Tensor:
        """Returns `(B, T)`."""
        return features @ self.texts.T  # (B, D) @ (D, T)


class TextToImage(Queries):
    """The captions of each image look for it among all others, which stay clean: logits over all images, `(B, Q, N)`.

    Q is the largest number of captions of an image. One with fewer has queries without a right answer, which do not
    count.
    """

    def __init__(
        self, model: VisionLanguageModel, gallery: Gallery, images: Tensor, positions: Tensor, clean: Tensor
    ) -> None:
        """Asks about the images at `positions`, `(B,)`; `clean` are the unit features of all images, `(N, D)`."""
        super().__init__(model, images)
        own, count = gallery.own(positions), len(clean)  # (B, T)
        most = int(own.sum(1).max())
        asked = own.int().argsort(dim=1, descending=True, stable=True)[:, :most]  # (B, Q), own captions first
        answers = gallery.right(torch.arange(count)).T[asked]  # (N, T) -> (T, N) -> (B, Q, N)
        self.labels = answers & own.gather(1, asked)[..., None]  # (B, Q, 1) against (B, Q, N)
        self.texts = gallery.features[asked]  # (T, D) -> (B, Q, D)
        self.others = model.logit_scale * (self.texts @ clean.T)  # (B, Q, D) @ (D, N) -> (B, Q, N)
        self.here = one_hot(positions, count).bool().to(own.device)[:, None]  # (B, 1, N)

    def logits(self, features: Tensor) -> Tensor:
        """Returns `(B, Q, N)`: only the column of the attacked image moves."""
        found = (self.texts * features[:, None]).sum(-1)  # (B, Q, D) * (B, 1, D) -> (B, Q)
        return torch.where(self.here, found[..., None], self.others)


def queries(
    direction: Direction,
    model: VisionLanguageModel,
    gallery: Gallery,
    images: Tensor,
    positions: Tensor,
    clean: Tensor | None,
) -> Queries:
    """Returns what is asked about images in a direction.

    Args:
        direction: Who looks for whom.
        model: The evaluated model.
        gallery: All captions.
        images: `(B, 3, H, W)`, or videos.
        positions: `(B,)`, of the images in the set.
        clean: Unit features of all clean images, `(N, D)`; needed by captions that look for images.
    """
    if direction == "image_to_text":
        return ImageToText(model, gallery, images, positions)
    assert clean is not None, "captions look for images among all of them"
    return TextToImage(model, gallery, images, positions, clean)


class Visited:
    """Passes points on to queries, and keeps for each image the one of the largest margin."""

    def __init__(self, asked: Queries, images: Tensor) -> None:
        """Starts with images, `(B, 3, H, W)`, none of which has been visited."""
        self.asked, self.worst = asked, images
        self.margin = images.new_full((len(images),), -torch.inf)  # (B,)

    def __call__(self, points: Tensor) -> Tensor:
        """Returns the logits of points, `(B, 3, H, W)`, of every image one."""
        logits = self.asked(points)
        self.keep(points.detach(), objective("margin", logits.detach(), self.asked.labels))
        return logits

    def keep(self, points: Tensor, margin: Tensor) -> None:
        """Keeps those points whose margin, `(B,)`, is larger than any before."""
        further = margin > self.margin  # (B,)
        as_images = further.view(-1, *(1,) * (points.dim() - 1))  # (B, 1, 1, 1), of videos (B, 1, 1, 1, 1)
        self.worst = torch.where(as_images, points, self.worst)
        self.margin = torch.where(further, margin, self.margin)
