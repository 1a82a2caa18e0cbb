"""Zero-shot classification: a class is the mean of the unit embeddings of its captions (Radford et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from advlora.attacks import finite
from advlora.data import Manifest
from advlora.models import VisionLanguageModel


@dataclass(frozen=True)
class ZeroShotClassifier:
    """Classifies images by the texts of the classes. It puts its model into eval mode.

    Attributes:
        model: Embeds images.
        class_features: `(C, D)`, unit length, on the model's device.

    Raises:
        NotFinite: If the text of a class has no finite features.
    """

    model: VisionLanguageModel
    class_features: Tensor

    def __post_init__(self) -> None:
        self.model.eval()
        finite(self.class_features, "features of the classes' texts")

    def __call__(self, images: Tensor) -> Tensor:
        """Returns the logits of images `(B, 3, H, W)` in [0, 1], `(B, C)`."""
        return self.model.logit_scale * self.features(images) @ self.class_features.T

    def features(self, images: Tensor) -> Tensor:
        """Embeds images `(B, 3, H, W)` in [0, 1]; returns `(B, D)`, unit length."""
        return normalize(self.model.encode_images(images), dim=-1)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.class_features.device


def class_captions(manifest: Manifest) -> tuple[str, ...]:
    """Returns every template filled with every class, class by class."""
    return tuple(caption for label in range(len(manifest.classes)) for caption in manifest.captions(label))


def class_features(unit: Tensor, manifest: Manifest) -> Tensor:
    """Returns `(C, D)`, unit length: per class the mean over the templates of the unit text features.

    Args:
        unit: Unit features of `class_captions`, `(C * templates, D)`.
        manifest: Classes and templates.
    """
    by_class = unit.view(len(manifest.classes), -1, unit.shape[1])  # (C, templates, D)
    return normalize(by_class.mean(1), dim=-1)  # (C, D)


def live_class_features(embed: Callable[[Sequence[str]], Tensor], manifest: Manifest) -> Tensor:
    """Returns the class features of a text tower as it is now; `embed` maps captions to `(N, D)`."""
    return class_features(normalize(embed(class_captions(manifest)).float(), dim=-1), manifest)
