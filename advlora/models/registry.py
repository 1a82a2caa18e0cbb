"""From a `ModelConfig` to a model, or to a sentence that says why not."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from advlora.config import ModelConfig
from advlora.errors import ModelError, did_you_mean
from advlora.models.base import VisionLanguageModel
from advlora.models.open_clip import LOCAL, SETTINGS_FILE, blank_vision, load_open_clip
from advlora.models.roles import target_layers

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth")
FILE_SUFFIXES = (*WEIGHT_SUFFIXES, ".pt", ".ckpt", ".npz")


def embedded_models() -> list[str]:
    """Returns the names of the models that ship with the package."""
    return sorted(settings.parent.name for settings in _shelf().glob(f"*/{SETTINGS_FILE}"))


def load_model(config: ModelConfig) -> VisionLanguageModel:
    """Loads a pretrained model: frozen, in eval mode, attention of the vision tower split.

    Raises:
        ModelError: If the model is unknown, or its weights are missing or unreadable.
    """
    name = _reference(config)
    _check_weights(name, config.pretrained)
    return load_open_clip(name, config.pretrained)


def linear_shapes(config: ModelConfig, target: str) -> dict[str, tuple[int, int]]:
    """Returns name inside the vision tower -> (out_features, in_features) of a target role, reading no weights.

    Raises:
        ModelError: If the model is unknown, its weights are known to be missing, or it has no such layers.
    """
    name = _reference(config)
    _check_weights(name, config.pretrained)
    layers = target_layers(blank_vision(name), target)
    return {layer: (module.out_features, module.in_features) for layer, module in layers.items()}


def _shelf() -> Path:
    return Path(str(resources.files("advlora"))) / "embedded"


def _reference(config: ModelConfig) -> str:
    """Returns the name by which open_clip knows the architecture, once it is certain that it does."""
    import open_clip

    if config.source == "embedded":
        if config.name not in embedded_models():
            known = embedded_models()
            raise ModelError(
                f"model.name: there is no embedded model '{config.name}'"
                f"{did_you_mean(config.name, known) or '; known: ' + ', '.join(known)}"
            )
        return f"{LOCAL}{_shelf() / config.name}"
    if config.name.startswith(LOCAL):
        _check_folder(Path(config.name.removeprefix(LOCAL)))
        return config.name
    name, known = config.name.replace("/", "-"), open_clip.list_models()
    if name not in known:
        raise ModelError(f"model.name: open_clip knows no architecture '{config.name}'{did_you_mean(name, known)}")
    return name


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ModelError(f"model.name: folder '{folder}' does not exist")
    file = folder / SETTINGS_FILE
    if not file.is_file():
        raise ModelError(f"model.name: folder '{folder}' holds no {SETTINGS_FILE}")
    try:
        settings = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} is not readable JSON: {error}") from error
    if not isinstance(settings, dict) or not isinstance(settings.get("model_cfg"), dict):
        raise ModelError(f"{file} holds no 'model_cfg'")


def _check_weights(name: str, pretrained: str | None) -> None:
    if not name.startswith(LOCAL):
        _check_pretrained(name, pretrained)
        return
    folder = Path(name.removeprefix(LOCAL))
    if pretrained is not None:
        raise ModelError(f"model.pretrained: '{pretrained}' is not used beside folder '{folder}'; leave it out")
    if not any(file.suffix in WEIGHT_SUFFIXES for file in folder.iterdir()):
        raise ModelError(f"model.name: folder '{folder}' holds no weights ({', '.join(WEIGHT_SUFFIXES)})")


def _check_pretrained(name: str, pretrained: str | None) -> None:
    from open_clip import get_model_config, get_pretrained_cfg, list_models, list_pretrained_tags_by_model

    tags = list_pretrained_tags_by_model(name)
    if pretrained is None:
        raise ModelError(
            f"model.pretrained is required for architecture '{name}': a file, or one of {', '.join(tags) or 'no tags'}"
        )
    if Path(pretrained).is_file():
        return
    if pretrained.endswith(FILE_SUFFIXES) or "/" in pretrained:
        raise ModelError(f"model.pretrained: file '{pretrained}' does not exist")
    described = get_pretrained_cfg(name, pretrained)
    if not described:
        nearest = did_you_mean(pretrained, tags) or f"; known: {', '.join(tags)}"
        raise ModelError(f"model.pretrained: architecture '{name}' has no weights '{pretrained}'{nearest}")
    twin = f"{name}-quickgelu"
    if described.get("quick_gelu", False) and not get_model_config(name).get("quick_gelu") and twin in list_models():
        raise ModelError(f"model.name: weights '{pretrained}' were trained with QuickGELU; use architecture '{twin}'")
