"""What a loss is built from, and `built`, the function that every loss registers its builder with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor

from advlora.adapters import AdaptedModel
from advlora.config import BaseLossConfig, TrialConfig
from advlora.data import ImageTextSet
from advlora.distributed import Group
from advlora.losses.base import FrozenFeatures, Loss


@dataclass(frozen=True)
class Parts:
    """What a loss can be built from.

    Attributes:
        config: The trial.
        frozen: Gives the embeddings by the pretrained model.
        data: The training set.
        adapted: The model, on the device of training.
        group: The processes that share a batch.
    """

    config: TrialConfig
    frozen: FrozenFeatures
    data: ImageTextSet
    adapted: AdaptedModel
    group: Group

    @property
    def scale(self) -> Tensor:
        """The logit scale."""
        return self.adapted.model.logit_scale

    @property
    def device(self) -> torch.device:
        """Where training computes."""
        return self.scale.device

    @property
    def width(self) -> int:
        """Dimension D of the joint space."""
        return self.adapted.model.embed_dim

    def pretrained_images(self) -> Tensor:
        """Returns the pretrained model's embeddings of the clean training set, `(N, D)`, not normalised."""
        return self.frozen.image_features(self.config.model, self.data, self.device, self.group).to(self.device)

    def pretrained_texts(self, captions: tuple[str, ...]) -> Tensor:
        """Returns the pretrained model's unit features of captions, `(T, D)`."""
        return self.frozen.text_features(self.config.model, captions, self.device, self.group).to(self.device)

    def pretrained_classes(self) -> Tensor:
        """Returns the pretrained model's unit features of the classes, `(C, D)`."""
        config = self.config
        return self.frozen.class_features(config.model, config.data, self.device, self.group).to(self.device)


@singledispatch
def built(loss: BaseLossConfig, parts: Parts) -> Loss:
    """Builds the loss that a section describes; each loss registers its own builder.

    Raises:
        DataError: If the loss needs classes, and the data set has none.
    """
    raise NotImplementedError(f"{type(loss).__name__} has no builder")
