"""Pretrained vision-language models behind one small protocol."""

from advlora.models.base import Tower, VisionLanguageModel
from advlora.models.registry import (
    TEXT_PREFIX,
    embedded_models,
    linear_shapes,
    load_for_adapter,
    load_model,
    tower_names,
)

__all__ = [
    "TEXT_PREFIX",
    "Tower",
    "VisionLanguageModel",
    "embedded_models",
    "linear_shapes",
    "load_for_adapter",
    "load_model",
    "tower_names",
]
