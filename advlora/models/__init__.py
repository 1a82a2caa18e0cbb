"""Pretrained vision-language models behind one small protocol."""

from advlora.models.attention import SplitTower
from advlora.models.base import Tower, VisionLanguageModel
from advlora.models.preprocessing import Preprocessing
from advlora.models.registry import (
    TEXT_PREFIX,
    blank_tower,
    has_logit_bias,
    has_matching_head,
    linear_shapes,
    load_for_adapter,
    load_model,
    tower_names,
)
from advlora.models.twin import as_transformers
from advlora.models.vision_weights import load_vision_weights
from advlora.shelves import embedded_models

__all__ = [
    "TEXT_PREFIX",
    "Preprocessing",
    "SplitTower",
    "Tower",
    "VisionLanguageModel",
    "as_transformers",
    "blank_tower",
    "embedded_models",
    "has_logit_bias",
    "has_matching_head",
    "linear_shapes",
    "load_for_adapter",
    "load_model",
    "load_vision_weights",
    "tower_names",
]
