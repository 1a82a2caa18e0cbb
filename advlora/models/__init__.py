"""Pretrained vision-language models behind one small protocol."""

from advlora.models.base import VisionLanguageModel
from advlora.models.registry import embedded_models, linear_shapes, load_model

__all__ = ["VisionLanguageModel", "embedded_models", "linear_shapes", "load_model"]
