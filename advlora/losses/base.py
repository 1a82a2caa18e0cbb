"""`Loss`: what training minimises and the attacker maximises, per sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from advlora.config import DataConfig, ModelConfig
from advlora.data import ImageTextSet
from advlora.distributed import Group
from advlora.losses.encoder import Encoder


class FrozenFeatures(Protocol):
    """Where a loss gets embeddings by the pretrained model, which a group computes together. A workbench is one."""

    def class_features(self, model: ModelConfig, data: DataConfig, device: torch.device, group: Group) -> Tensor:
        """Returns the unit text features of the classes, `(C, D)`."""

    def text_features(
        self, model: ModelConfig, captions: tuple[str, ...], device: torch.device, group: Group
    ) -> Tensor:
        """Returns the unit features of captions, `(N, D)`."""

    def image_features(self, model: ModelConfig, data: ImageTextSet, device: torch.device, group: Group) -> Tensor:
        """Returns the embeddings of clean images, `(N, D)`, not normalised."""


@dataclass(frozen=True)
class Step:
    """One training step, as a process sees it.

    Attributes:
        clean: The images of this process, `(b, 3, H, W)` (videos: `(b, F, 3, H, W)`), in [0, 1].
        samples: `(b,)`, their positions in the training set.
        batch: `(B,)`, the positions of the whole batch over all processes.
    """

    clean: Tensor
    samples: Tensor
    batch: Tensor


class Loss(ABC):
    """A loss of image embeddings. Every process holds the frozen features of all samples."""

    @abstractmethod
    def __call__(self, features: Tensor, samples: Tensor, batch: Tensor) -> Tensor:
        """Returns the loss of each sample.

        Args:
            features: `(b, D)`, embeddings, not normalised.
            samples: `(b,)`, their positions in the training set.
            batch: `(B,)`, the positions of the whole batch over all processes.

        Returns:
            `(b,)`, float32.
        """

    def start_epoch(self, epoch: int) -> None:  # noqa: B027 - most losses have nothing to do
        """Prepares for an epoch, counted from 0."""

    def embed_texts(self, encoder: Encoder, step: Step) -> None:  # noqa: B027
        """Embeds what a trained text tower says in a step: once, with gradient, for the attack and for the update."""

    def prepare(self, encoder: Encoder, step: Step, *, update: bool) -> None:  # noqa: B027
        """Computes what all passes of a step share: once before the attack, and again, with gradient, for the update.

        Args:
            encoder: The model.
            step: The step.
            update: Whether the update follows.
        """

    def attacked(self, encoder: Encoder, images: Tensor, step: Step) -> Tensor:
        """Returns what the attacker maximises at `images`, `(b,)`."""
        return self(encoder.images(images), step.samples, step.batch)

    def objective(self, encoder: Encoder, images: Tensor, step: Step) -> Tensor:
        """Returns what the update minimises at attacked `images`, `(b,)`."""
        return self.attacked(encoder, images, step)
