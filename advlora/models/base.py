"""`VisionLanguageModel`: what the rest of the package needs to know of a model, whatever library it comes from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn


class VisionLanguageModel(nn.Module):
    """Two towers into one joint space. Its parameters are frozen until an adapter thaws some.

    Attributes:
        image_size: Height and width H = W of the images, in pixels.
        embed_dim: Dimension D of the joint space.
        logit_scale: Scalar that multiplies cosine similarities (the exponential is already applied); frozen.
    """

    image_size: int
    embed_dim: int
    logit_scale: Tensor

    @property
    @abstractmethod
    def vision(self) -> nn.Module:
        """The vision tower, in which adapters attach; the blocks' layers bear the names of `advlora.models.roles`."""

    @abstractmethod
    def encode_images(self, images: Tensor) -> Tensor:
        """Embeds images.

        Args:
            images: `(B, 3, H, W)` in [0, 1] at the model's own size; pixels are normalised inside, so that an attack
                on them is measured in pixel space.

        Returns:
            `(B, D)`, not normalised.
        """

    @abstractmethod
    def encode_texts(self, captions: Sequence[str]) -> Tensor:
        """Embeds captions, without gradient.

        Returns:
            `(N, D)`, not normalised.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes the model in the layout of the library it comes from, such that this library loads it unaided.

        Args:
            folder: Created where it is missing. The vision tower must hold no adapter.
        """
