"""Files with nothing but the vision tower of an open_clip model, as robust CLIP models are published.

TeCoA (Mao et al. 2023) and FARE (Schlarmann et al. 2024) change the vision tower only, and their authors publish its
state. It replaces that of the pretrained model, whose text tower stays.
"""

from __future__ import annotations

from pathlib import Path

from advlora.config import ModelConfig
from advlora.errors import ModelError
from advlora.models.base import VisionLanguageModel
from advlora.models.quiet import contained
from advlora.models.registry import load_model

NESTED = "vision_encoder_state_dict"
"""Where training scripts of TeCoA keep the tower."""


def load_vision_weights(base: ModelConfig, file: Path) -> VisionLanguageModel:
    """Loads a pretrained model with the vision tower of a file; every module is as its library made it.

    Args:
        base: An open_clip or embedded model.
        file: State of its vision tower; also inside `vision_encoder_state_dict` or `state_dict`, or with `module.`
            before every name.

    Raises:
        ModelError: If the base is of another library or cannot be read, or the file is not the state of its tower.
    """
    from open_clip.factory import load_state_dict

    if base.source == "transformers":
        raise ModelError(f"'{file}' needs an open_clip model as its base, but '{base.name}' is one of transformers")
    model = load_model(base, split=False)
    with contained():
        try:
            state = load_state_dict(str(file))
            model.vision.load_state_dict(state.get(NESTED, state))
        except Exception as error:  # pickle, safetensors and torch share no base class of errors
            raise ModelError(
                f"file '{file}' does not hold the vision tower of '{base.name}': {_reason(error)}"
            ) from error
    return model


def _reason(error: Exception) -> str:
    """Says in one line what is wrong; for a state that does not fit, how it differs."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:200] or type(error).__name__
