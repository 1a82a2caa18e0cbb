"""`Workbench`: what stays loaded between the trials of one process. No trial can change what the next one gets."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from advlora.config import DataConfig, ModelConfig
from advlora.data import ImageTextSet, load_manifest, load_split
from advlora.distributed import SOLO, Group
from advlora.evaluation.zero_shot import class_captions, class_features
from advlora.models import Preprocessing, VisionLanguageModel, load_model
from advlora.numerics import computing
from advlora.training.features import in_shares, kept, text_key, text_weights

CPU = torch.device("cpu")


class Workbench:
    """Caches pretrained models, data and frozen features; hands out copies of models.

    Attributes:
        cache: Folder in which k-means and SVD of the weights are shared between processes; None for this one only.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache
        self._models: dict[ModelConfig, VisionLanguageModel] = {}
        self._splits: dict[tuple[DataConfig, str, Preprocessing, int | None], ImageTextSet] = {}
        self._texts: dict[str, Tensor] = {}
        self._weights: dict[ModelConfig, str] = {}
        self._images: dict[ModelConfig, tuple[ImageTextSet, Tensor]] = {}
        self._numbers: dict[str, float] = {}

    def model(self, config: ModelConfig) -> VisionLanguageModel:
        """Returns a fresh copy of the pretrained model, on the CPU.

        Raises:
            ModelError: If it is unknown, or its weights are missing or unreadable.
        """
        return copy.deepcopy(self._pretrained(config))

    def split(
        self, config: DataConfig, name: str, preprocessing: Preprocessing, limit: int | None = None
    ) -> ImageTextSet:
        """Returns the first samples of a split; see `advlora.data.load_split`.

        Raises:
            DataError: If a shard is missing or damaged.
        """
        key = (config, name, preprocessing, limit)
        if key not in self._splits:
            self._splits[key] = load_split(config, name, preprocessing, limit)
        return self._splits[key]

    def class_features(
        self, model: ModelConfig, data: DataConfig, device: torch.device = CPU, group: Group = SOLO
    ) -> Tensor:
        """Returns `(C, D)`, unit length: per class the mean over the templates of the unit text features."""
        manifest = load_manifest(data)
        return class_features(self.text_features(model, class_captions(manifest), device, group), manifest)

    @computing()
    def text_features(
        self, model: ModelConfig, captions: tuple[str, ...], device: torch.device = CPU, group: Group = SOLO
    ) -> Tensor:
        """Returns the unit features of captions, `(N, D)`, on the CPU; every process of the group has to ask.

        They are computed once, on the device, and kept in the folder that `ADVLORA_CACHE` names.

        Raises:
            UserError: If that folder is full.
        """
        key = text_key(model, self._text_weights(model), captions, device)

        def compute() -> Tensor:
            pretrained = self.model(model).to(device)

            def embed(positions: Tensor) -> Tensor:
                return normalize(pretrained.encode_texts([captions[place] for place in positions.tolist()]), dim=-1)

            return in_shares(len(captions), pretrained.embed_dim, embed, device, group)

        return kept(self._texts, key, compute, group)

    @torch.no_grad()
    @computing()
    def image_features(
        self, model: ModelConfig, data: ImageTextSet, device: torch.device = CPU, group: Group = SOLO
    ) -> Tensor:
        """Returns the pretrained embeddings of clean images, `(N, D)`, not normalised, on the CPU.

        Images pass the device chunk by chunk, and those of the last set are remembered. Every process of the group has
        to ask.
        """
        known = self._images.get(model)
        if not all(group.gather(known is not None and known[0] is data)):
            pretrained = self.model(model).to(device)

            def embed(positions: Tensor) -> Tensor:
                return pretrained.embed(data.images[positions].to(device).float() / 255)

            self._images[model] = (data, in_shares(len(data), pretrained.embed_dim, embed, device, group))
        return self._images[model][1]

    def once(self, key: str, measure: Callable[[], float]) -> float:
        """Returns a number that is measured at the first call with a key."""
        if key not in self._numbers:
            self._numbers[key] = measure()
        return self._numbers[key]

    def _pretrained(self, config: ModelConfig) -> VisionLanguageModel:
        if config not in self._models:
            self._models[config] = load_model(config)
        return self._models[config]

    def _text_weights(self, config: ModelConfig) -> str:
        if config not in self._weights:
            self._weights[config] = text_weights(self._pretrained(config))
        return self._weights[config]
