"""Files with nothing but the vision tower of an open_clip model, as robust CLIP models are published.

TeCoA (Mao et al. 2023) and FARE (Schlarmann et al. 2024) change the vision tower only, and their authors publish its
state. It replaces that of the pretrained model, whose text tower stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from advlora.config import ModelConfig
from advlora.errors import ModelError
from advlora.models.base import VisionLanguageModel
from advlora.models.checkpoint import pixels, read_weights, vision_state
from advlora.models.registry import load_model

KINSHIP = 0.2
"""Cosine of all matrices of two towers below which one is not fine-tuned from the other; of unrelated ones it is near
0, and fine-tuning leaves it near 1."""


def load_vision_weights(base: ModelConfig, file: Path) -> VisionLanguageModel:
    """Loads a pretrained model with the vision tower of a file; every module is as its library made it.

    Args:
        base: An open_clip or embedded model.
        file: State of its vision tower; also inside `vision_encoder_state_dict`, `state_dict`, `model_state_dict` or
            `model`, or with `module.`, `visual.` and the like before every name.

    Raises:
        ModelError: If the base is of another library or cannot be read, or the file is not the state of its tower, or
            that of a tower that began elsewhere.
    """
    if base.source == "transformers":
        raise ModelError(f"'{file}' needs an open_clip model as its base, but '{base.name}' is one of transformers")
    model = load_model(base, split=False)
    state = vision_state(read_weights(file))
    if problem := _misfit(state, model.vision.state_dict(), base.name):
        raise ModelError(f"file '{file}' does not hold the vision tower of '{base.name}': {problem}")
    model.vision.load_state_dict(state)
    return model


def _misfit(state: Mapping[str, Tensor], tower: Mapping[str, Tensor], base: str) -> str:
    """Says how the state in a file differs from that of a tower; empty where it may take its place."""
    if any(name.startswith("visual.") for name in state):
        return "it holds a whole model, text tower included"
    if pixels(state) != pixels(tower) and pixels(state) and pixels(tower):
        return f"it was trained on images of {_size(state)} pixels, and '{base}' takes {_size(tower)}"
    for what, names in (("it lacks", tower.keys() - state), ("it also holds", state.keys() - tower)):
        if names:
            return f"{what} {len(names)} tensors, such as '{min(names)}'"
    for name, tensor in tower.items():
        if state[name].shape != tensor.shape:
            return f"'{name}' has the shape {_shape(state[name])}, not {_shape(tensor)}"
    if (kinship := _kinship(state, tower)) < KINSHIP:
        return (
            f"the two have nothing in common (the cosine of their weights is {kinship:.2f}); name the pretrained model "
            "that it was fine-tuned from, for text tower and activation (QuickGELU or GELU) are taken from there"
        )
    return ""


@torch.no_grad()
def _kinship(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Returns the cosine between the matrices of two towers with the same names and shapes."""
    products = torch.zeros(3, dtype=torch.float64)  # of both, and of each with itself
    for name in (name for name in one if one[name].dim() > 1):
        a, b = one[name].float().flatten(), other[name].float().flatten()  # (m, n) -> (m n,)
        products += torch.stack([a @ b, a @ a, b @ b]).double()
    return float(products[0] / (products[1] * products[2]).sqrt().clamp_min(1e-12))


def _size(state: Mapping[str, Tensor]) -> str:
    return f"{pixels(state)} x {pixels(state)}"


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))
