"""`VisionLanguageModel`: what the rest of the package needs to know about a model of any library."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from advlora.errors import ModelError
from advlora.models.preprocessing import Preprocessing
from advlora.models.roles import RoleMap, target_layers

TowerName = Literal["vision", "text"]


@dataclass(frozen=True)
class Tower:
    """One encoder of a model, in which adapters attach.

    Attributes:
        name: Which of the two it is.
        module: Adapted layers are named relative to it. Both towers of a model may share it.
        roles: What the layers of its blocks are called.
        parts: Prefixes of the names inside `module` that belong to the tower; empty if all do.
        projection: Prefix of the parameters of the final projection into the joint space; empty if there is none.
        model: Name of its model, for messages.
    """

    name: TowerName
    module: nn.Module
    roles: RoleMap
    parts: tuple[str, ...] = ()
    projection: str = ""
    model: str = ""

    def owns(self, name: str) -> bool:
        """Whether a parameter, buffer or layer of the module belongs to this tower."""
        return not self.parts or name.startswith(self.parts)

    @property
    def _title(self) -> str:
        family = type(getattr(self.module, "trunk", self.module)).__name__
        return f"{self.name} tower {family}" + (f" of '{self.model}'" if self.model else "")

    def parameters(self) -> dict[str, nn.Parameter]:
        """Returns name -> parameter."""
        return {name: value for name, value in self.module.named_parameters() if self.owns(name)}

    def layers(self, target: str, blocks: tuple[int, int] | None = None) -> dict[str, nn.Linear]:
        """Returns name -> layer of a target role; see `target_layers`.

        Raises:
            ModelError: If the tower has no such layers, or not so many blocks.
        """
        return target_layers(self.module, target, self.roles, blocks=blocks, parts=self.parts, tower=self._title)


class VisionLanguageModel(nn.Module):
    """Two towers into one joint space. Its parameters are frozen until an adapter thaws some.

    Attributes:
        image_size: Height and width H = W of the images, in pixels.
        embed_dim: Dimension D of the joint space.
        logit_scale: Scalar that multiplies cosine similarities (the exponential is already applied); frozen.
        logit_bias: Scalar that is added to them by a model that a sigmoid loss trained, as SigLIP; frozen, else None.
        matches: Whether the model has an image-text matching head, so that `match` works.
    """

    image_size: int
    embed_dim: int
    logit_scale: Tensor
    logit_bias: Tensor | None
    matches: bool = False

    @property
    @abstractmethod
    def vision(self) -> nn.Module:
        """The module of the vision tower."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are brought to the model's size; part of the model, so the same wherever its weights are."""
        return Preprocessing(self.image_size)

    def tower(self, name: TowerName) -> Tower:
        """Returns a tower. Fused attention inside it is split, so that q, k and v are separate layers.

        Raises:
            ModelError: If this model's tower cannot be adapted.
        """
        raise ModelError(f"the {name} tower of {type(self).__name__} cannot be adapted")

    @abstractmethod
    def encode_images(self, images: Tensor) -> Tensor:
        """Embeds images.

        Args:
            images: `(B, 3, H, W)` in [0, 1] at the model's own size; pixels are normalised inside, so that an attack
                on them is measured in pixel space.

        Returns:
            `(B, D)`, not normalised.
        """

    def embed(self, visual: Tensor) -> Tensor:
        """Embeds images `(B, 3, H, W)`, or videos `(B, F, 3, H, W)` as the mean of their frames' unit embeddings.

        The mean of unit embeddings is the parameter-free pooling of CLIP4Clip (Luo et al. 2022, section 3.4).

        Returns:
            `(B, D)`, not normalised.
        """
        if visual.dim() == 4:
            return self.encode_images(visual)
        frames = normalize(self.encode_images(visual.flatten(0, 1)), dim=-1)  # (B, F, 3, H, W) -> (B * F, D)
        return frames.view(*visual.shape[:2], -1).mean(1)  # (B * F, D) -> (B, F, D) -> (B, D)

    @abstractmethod
    def encode_texts(self, captions: Sequence[str]) -> Tensor:
        """Embeds captions, without gradient.

        Returns:
            `(N, D)`, not normalised.
        """

    def embed_texts(self, captions: Sequence[str]) -> Tensor:
        """Embeds captions as `encode_texts` does, but with gradient where parameters of the text tower are trained."""
        raise ModelError(f"the text tower of {type(self).__name__} cannot be trained")

    def image_tokens(self, images: Tensor) -> Tensor:
        """Returns the patch tokens of images `(B, 3, H, W)` in [0, 1] that `match` compares, `(B, T, W)`."""
        raise ModelError(f"{type(self).__name__} has no image-text matching head")

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Embeds images by the tokens `(B, T, W)` of `image_tokens`, `(B, D)`, as `encode_images` does."""
        raise ModelError(f"{type(self).__name__} has no image-text matching head")

    def match(self, tokens: Tensor, captions: Sequence[str]) -> Tensor:
        """Scores pairs of an image and a caption; with gradient.

        Args:
            tokens: `(B, T, W)`, from `image_tokens`.
            captions: One per image.

        Returns:
            `(B, 2)`: logits of "they do not match" and of "they match".
        """
        raise ModelError(f"{type(self).__name__} has no image-text matching head")

    def score_pairs(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """Scores pairs of images `(B, 3, H, W)` and B captions, `(B,)`: by the matching head if there is one.

        By its logit of "they match" minus that of "they do not"; without a head by logit scale times cosine.
        """
        if self.matches:
            return self.match(self.image_tokens(images), captions).diff(dim=1)[:, 0]  # (B, 2) -> (B,)
        unit = normalize(self.encode_images(images), dim=-1) * normalize(self.encode_texts(captions), dim=-1)
        return self.logit_scale * unit.sum(-1)

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes the model in the layout of the library it comes from, such that this library loads it unaided.

        Args:
            folder: Created where it is missing. The towers must hold no adapter.
        """


def pixel_statistics(model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
    """Gives a model the buffers `mean` and `std`, `(3, 1, 1)`, by which it normalises pixels."""
    for name, values in (("mean", mean), ("std", std)):
        model.register_buffer(name, torch.tensor(values).view(3, 1, 1))
