"""Files of weights as people publish them: what they hold, read without running code from them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advlora.errors import ModelError

TOWER = "vision_encoder_state_dict"
"""Where the training script of TeCoA keeps the vision tower, beside the state of its prompter in `state_dict`."""
NESTED = (TOWER, "state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.", "visual.")
"""What wrappers put before every name of a tower: data-parallel training, compilation, a class around the model."""
POSITIONS, PATCHES = "positional_embedding", "conv1.weight"
State = dict[str, Tensor]


def read_weights(file: Path) -> dict[str, Any]:
    """Reads a file of torch or safetensors as it is; of one that can be mapped, only what is used later.

    Raises:
        ModelError: If it is no such file, or holds code or objects of Python.
    """
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(file))
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # pickle, safetensors, zipfile and torch share no base class of errors
        raise ModelError(f"file '{file}' cannot be read: {_fault(file) or reason(error)}") from error
    if not isinstance(content, dict):
        raise ModelError(f"file '{file}' cannot be read: it holds {type(content).__name__}, not tensors by name")
    return content


def vision_state(content: Mapping[str, Any]) -> State:
    """Returns the tensors of a vision tower from what a file holds, without what wrappers put around their names."""
    nested = [content[key] for key in NESTED if isinstance(content.get(key), Mapping) and content[key]]
    state = _tensors(nested[0] if nested else content)
    while prefix := next((prefix for prefix in PREFIXES if _all_begin(state, prefix)), ""):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def whole_state(content: Mapping[str, Any]) -> State:
    """Returns the tensors of a whole model from what a file holds, as open_clip reads them."""
    nested = content.get("state_dict")
    state = _tensors(nested if isinstance(nested, Mapping) else content)
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def holds_tower_alone(content: Mapping[str, Any]) -> bool:
    """Whether a file holds a vision tower without its text tower."""
    state = vision_state(content)
    return bool(state) and not any(name.startswith("visual.") for name in state) and PATCHES in state


def check_whole(file: Path, model: str, settings: Mapping[str, Any]) -> None:
    """Refuses a file that is not a whole model of an architecture, or whose sizes open_clip would change silently.

    Args:
        file: The weights.
        model: Name of the architecture.
        settings: Its `model_cfg`.

    Raises:
        ModelError: If the file cannot be read, holds a vision tower alone, or was trained at another size of images or
            length of captions.
    """
    if file.suffix == ".npz":  # of big_vision, which open_clip translates
        return
    content = read_weights(file)
    if holds_tower_alone(content):
        raise ModelError(f"file '{file}' holds a vision tower alone, but model '{model}' needs its text tower too")
    state = whole_state(content)
    tower = {name.removeprefix("visual."): value for name, value in state.items() if name.startswith("visual.")}
    size, trained = settings["vision_cfg"].get("image_size", 224), pixels(tower)
    if trained and isinstance(size, int) and trained != size - size % tower[PATCHES].shape[-1]:
        raise ModelError(
            f"file '{file}' was trained on images of {trained} x {trained} pixels, but model '{model}' takes {size} x "
            f"{size}; name the architecture that it was trained with"
        )
    length = settings["text_cfg"].get("context_length", 77) + bool(settings["text_cfg"].get("embed_cls"))
    texts = state.get(POSITIONS, state.get(f"text.{POSITIONS}"))
    if texts is not None and texts.dim() == 2 and len(texts) != length:
        raise ModelError(
            f"file '{file}' was trained on captions of {len(texts)} tokens, but model '{model}' takes {length}; name "
            "the architecture that it was trained with"
        )


def pixels(state: Mapping[str, Tensor]) -> int | None:
    """Returns the height and width of the images that a ViT of open_clip was trained on; None for any other tower.

    Args:
        state: The tower, `positional_embedding` `(1 + T, W)` and `conv1.weight` `(W, 3, P, P)` among it.
    """
    if POSITIONS not in state or PATCHES not in state:
        return None
    return isqrt(len(state[POSITIONS]) - 1) * state[PATCHES].shape[-1]


def reason(error: Exception) -> str:
    """Says in one line what is wrong; for a state that does not fit, how it differs."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:200] or type(error).__name__


def _fault(file: Path) -> str:
    """Says what is known of a file of torch that is not read; empty where nothing is."""
    try:
        if not zipfile.is_zipfile(file):
            return ""
        with zipfile.ZipFile(file) as archive:
            if any("/code/" in name for name in archive.namelist()):
                return (
                    "it is a TorchScript archive, which holds code; write its weights alone, by "
                    "torch.save(dict(torch.jit.load(FILE).named_parameters()), OTHER)"
                )
        objects = torch.serialization.get_unsafe_globals_in_checkpoint(str(file))
    except Exception:  # the file is damaged, and the first error says how
        return ""
    if not objects:
        return ""
    return (
        f"it holds objects of Python ({', '.join(sorted(objects)[:3])}), which would run code; write its weights "
        "alone, by torch.save of the state_dict"
    )


def _tensors(state: Mapping[str, Any]) -> State:
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _all_begin(state: State, prefix: str) -> bool:
    return bool(state) and all(name.startswith(prefix) for name in state)
