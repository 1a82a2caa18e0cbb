"""FARE: robustness without labels."""

from __future__ import annotations

from torch import Tensor

from advlora.config.losses import FareConfig
from advlora.losses.base import Loss
from advlora.losses.parts import Parts, built


class Fare(Loss):
    """Squared distance to the pretrained model's embedding of the clean image (Schlarmann et al. 2024, equation 3)."""

    def __init__(self, targets: Tensor) -> None:
        """Takes the embeddings `(N, D)` of the clean training set, not normalised."""
        self.targets = targets

    def __call__(self, features: Tensor, samples: Tensor, batch: Tensor) -> Tensor:
        """See `Loss`; the batch does not matter."""
        return (features.float() - self.targets[samples]).square().sum(-1)


@built.register
def _fare(loss: FareConfig, parts: Parts) -> Loss:
    return Fare(parts.pretrained_images())
