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
from advlora.evaluation.zero_shot import class_captions, class_features
from advlora.models import Preprocessing, VisionLanguageModel, load_model
from advlora.numerics import computing

CHUNK = 256


class Workbench:
    """Caches pretrained models, data and frozen features; hands out copies of models.

    Attributes:
        cache: Folder in which k-means and SVD of the weights are shared between processes; None for this one only.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache
        self._models: dict[ModelConfig, VisionLanguageModel] = {}
        self._splits: dict[tuple[DataConfig, str, Preprocessing, int | None], ImageTextSet] = {}
        self._texts: dict[tuple[ModelConfig, tuple[str, ...]], Tensor] = {}
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

    def class_features(self, model: ModelConfig, data: DataConfig) -> Tensor:
        """Returns `(C, D)`, unit length: per class the mean over the templates of the unit text features."""
        manifest = load_manifest(data)
        return class_features(self.text_features(model, class_captions(manifest)), manifest)

    @computing()
    def text_features(self, model: ModelConfig, captions: tuple[str, ...]) -> Tensor:
        """Returns the unit features of captions, `(N, D)`."""
        key = (model, captions)
        if key not in self._texts:
            self._texts[key] = normalize(self._pretrained(model).encode_texts(captions), dim=-1)
        return self._texts[key]

    @torch.no_grad()
    @computing()
    def image_features(self, model: ModelConfig, data: ImageTextSet, device: torch.device) -> Tensor:
        """Returns the pretrained embeddings of clean images, `(N, D)`, not normalised; of the last set only."""
        known = self._images.get(model)
        if known is None or known[0] is not data:
            pretrained = self.model(model).to(device)
            parts = [part.to(device).float() / 255 for part in torch.split(data.images, CHUNK)]
            self._images[model] = (data, torch.cat([pretrained.embed(part).cpu() for part in parts]))
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
