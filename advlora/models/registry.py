"""From a `ModelConfig` to a model, or to a sentence that says why not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from advlora.config import HUB, LOCAL, ModelConfig, expanded
from advlora.errors import ModelError, did_you_mean
from advlora.models.base import Tower, TowerName, VisionLanguageModel
from advlora.models.checkpoint import check_whole
from advlora.models.open_clip import SETTINGS_FILE, blank_open_clip, load_open_clip, settings_of
from advlora.models.quiet import contained
from advlora.models.transformers import load_transformers
from advlora.shelves import embedded_models, shelf

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth")
TEXT_PREFIX = "text/"
"""Marks the text tower's layers where the names of both towers are kept together."""
FILE_SUFFIXES = (*WEIGHT_SUFFIXES, ".pt", ".ckpt", ".npz")


def load_model(config: ModelConfig, *, split: bool = True) -> VisionLanguageModel:
    """Loads a pretrained model: frozen, in eval mode, attention of the vision tower split.

    Args:
        config: Names it.
        split: False leaves every module as its library made it.

    Raises:
        ModelError: If the model is unknown, or its weights are missing or unreadable.
    """
    config = _located(config)
    if config.source == "transformers":
        return load_transformers(config.name, config.pretrained, split=split)
    return load_open_clip(_reference(config), config.pretrained, split=split)


def load_for_adapter(config: ModelConfig) -> VisionLanguageModel:
    """Loads a pretrained model as exported adapters expect it: `nn.MultiheadAttention` split, `qkv` layers fused.

    Raises:
        ModelError: If the model is unknown, or its weights are missing or unreadable.
    """
    config = _located(config)
    if config.source == "transformers":
        return load_model(config, split=False)
    return load_open_clip(_reference(config), config.pretrained, projections=False)


def linear_shapes(
    config: ModelConfig, target: str, tower: str = "vision", blocks: tuple[int, int] | None = None
) -> dict[str, tuple[int, int]]:
    """Returns name inside the tower -> (out_features, in_features) of a target role, reading no weights.

    Args:
        config: The model.
        target: The role.
        tower: `vision`, `text`, or `both`; the text tower's names begin with `text/` then.
        blocks: First and last block; None for all.

    Raises:
        ModelError: If the model is unknown, its weights are known to be missing, or it has no such layers.
    """
    shapes: dict[str, tuple[int, int]] = {}
    for name in tower_names(tower):
        for layer, module in blank_tower(config, name).layers(target, blocks).items():
            shapes[TEXT_PREFIX * (name == "text") + layer] = (module.out_features, module.in_features)
    return shapes


def tower_names(tower: str) -> tuple[TowerName, ...]:
    """Returns the towers that `vision`, `text` or `both` means."""
    names: dict[str, tuple[TowerName, ...]] = {"vision": ("vision",), "text": ("text",), "both": ("vision", "text")}
    return names[tower]


def blank_tower(config: ModelConfig, tower: TowerName) -> Tower:
    """Returns a tower on the meta device: names and shapes, no weights.

    Raises:
        ModelError: If the model is unknown, or its weights are known to be missing.
    """
    config = _located(config)
    if config.source == "transformers":
        found = load_transformers(config.name, config.pretrained, device="meta").tower(tower)
    else:
        found = blank_open_clip(_reference(config), tower)
    return replace(found, model=config.name)


def has_matching_head(config: ModelConfig) -> bool:
    """Whether a model can score pairs by an image-text matching head.

    Raises:
        ModelError: If the model is unknown.
    """
    if config.source != "transformers":
        return False
    return load_transformers(_located(config).name, config.pretrained, device="meta").matches


def has_logit_bias(config: ModelConfig) -> bool:
    """Whether a model adds a bias to its logits, as those do that were trained by a sigmoid loss.

    Raises:
        ModelError: If the model is unknown.
    """
    config = _located(config)
    if config.source == "transformers":
        return load_transformers(config.name, config.pretrained, device="meta").logit_bias is not None
    return settings_of(_reference(config)).get("init_logit_bias") is not None


def _located(config: ModelConfig) -> ModelConfig:
    """Returns the configuration with the paths that its name and weights mean on this machine."""
    pretrained = None if config.pretrained is None else expanded(config.pretrained)
    return config.model_copy(update={"name": expanded(config.name), "pretrained": pretrained})


def _reference(config: ModelConfig) -> str:
    """Returns open_clip's name of the architecture, after checking that there is one, and its weights."""
    name = _architecture(config)
    _check_weights(name, config.pretrained)
    return name


def _architecture(config: ModelConfig) -> str:
    import open_clip

    if config.source == "embedded":
        if config.name not in embedded_models():
            known = embedded_models()
            raise ModelError(
                f"model.name: there is no embedded model '{config.name}'"
                f"{did_you_mean(config.name, known) or '; known: ' + ', '.join(known)}"
            )
        return f"{LOCAL}{shelf() / config.name}"
    if config.name.startswith(LOCAL):
        _check_folder(Path(config.name.removeprefix(LOCAL)))
        return config.name
    if config.name.startswith(HUB):
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
    model = settings.get("model_cfg") if isinstance(settings, dict) else None
    if not isinstance(model, dict) or not all(isinstance(model.get(key), dict) for key in ("vision_cfg", "text_cfg")):
        raise ModelError(f"{file} holds no 'model_cfg' with 'vision_cfg' and 'text_cfg'")


def _check_weights(name: str, pretrained: str | None) -> None:
    if pretrained is not None and name.startswith((LOCAL, HUB)):
        where = f"folder '{name.removeprefix(LOCAL)}'" if name.startswith(LOCAL) else f"model '{name}' of the hub"
        raise ModelError(f"model.pretrained: '{pretrained}' has no effect with {where}; leave it out")
    if name.startswith(LOCAL):
        _check_stored(Path(name.removeprefix(LOCAL)))
    elif not name.startswith(HUB):
        _check_pretrained(name, pretrained)


def _check_stored(folder: Path) -> None:
    from open_clip.factory import _find_checkpoint_in_dir

    with contained():
        file = _find_checkpoint_in_dir(folder)
    if file is None:
        raise ModelError(f"model.name: folder '{folder}' holds no weights ({', '.join(WEIGHT_SUFFIXES)})")
    check_whole(Path(file), folder.name, settings_of(f"{LOCAL}{folder}"))


def _check_pretrained(name: str, pretrained: str | None) -> None:
    from open_clip import get_model_config, get_pretrained_cfg, list_models, list_pretrained_tags_by_model

    tags = list_pretrained_tags_by_model(name)
    if pretrained is None:
        raise ModelError(
            f"model.pretrained is required for architecture '{name}': a file, or one of {', '.join(tags) or 'no tags'}"
        )
    if Path(pretrained).is_file():
        check_whole(Path(pretrained), name, settings_of(name))
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
