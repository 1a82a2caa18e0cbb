"""A trained model on disk.

`merged/` is for the library that the pretrained model comes from, `adapter/` (and `adapter-text/`, where the text
tower is another module) for PEFT on that library's model, `adapter-transformers/` for PEFT on transformers' model of
the same function; `native/` is for this package alone, where the update has no linear form. `trained.json` says what
was trained and how exact the exports are; the README.md of an adapter, how it is loaded.
"""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor

from advlora.adapters.adapt import AdaptedModel, adapt
from advlora.adapters.export import export_adapter, export_merged, export_twin_adapter, no_adapter, verify
from advlora.config import LOCAL, AdapterConfig, LoraAdapter, ModelConfig, parse
from advlora.config.base import Section
from advlora.errors import ConfigError, ModelError
from advlora.models import VisionLanguageModel, load_for_adapter, load_model
from advlora.models.attention import SPLIT, SplitTower
from advlora.models.base import TowerName
from advlora.models.tensors import write_tensors
from advlora.models.twin import Twin, twin_of

RECORD, MERGED, NATIVE = "trained.json", "merged", "native"
ADAPTER, TEXT_ADAPTER, TWIN_ADAPTER = "adapter", "adapter-text", "adapter-transformers"
STATE = "state.safetensors"


class TrainedRecord(Section):
    """What `trained.json` says."""

    base: ModelConfig
    adapter: AdapterConfig = LoraAdapter()
    export_errors: dict[str, dict[str, float]] = {}
    """Export -> largest differences from the trained model, as `verify` returns them."""
    no_adapter: str | None = None
    """Why low-rank factors were not written as a PEFT adapter."""


def save_trained(
    adapted: AdaptedModel, base: ModelConfig, config: AdapterConfig, folder: Path, sample_images: Tensor
) -> dict[str, Path]:
    """Exports a trained model and verifies each export by loading it back, with the stock library where there is one.

    Args:
        adapted: The trained model.
        base: The pretrained model it started from.
        config: Its adapter.
        folder: Created where it is missing.
        sample_images: `(B, 3, H, W)` in [0, 1], on which the functions are compared.

    Returns:
        `merged`, and `adapter` where the method is low-rank and PEFT can hold it, with `adapter-transformers` where
        transformers has the architecture; or `native` alone.

    Raises:
        ExportError: If an export is not the function that was trained.
    """
    if not config.linear:
        paths, errors = _save_native(adapted, base, config, folder, sample_images)
    else:
        paths, errors = _save_stock(adapted, base, folder, sample_images)
    reason = no_adapter(adapted) if adapted.layers else None
    record = TrainedRecord(base=base, adapter=config, export_errors=errors, no_adapter=reason)
    (folder / RECORD).write_text(record.model_dump_json(indent=2))
    return paths


def load_trained(folder: Path) -> tuple[VisionLanguageModel, ModelConfig]:
    """Loads what `save_trained` wrote: the merged model, or, where it was removed, the adapter on its base.

    Returns:
        The model, and a configuration by which its text tower can be loaded.

    Raises:
        ModelError: If the folder holds no trained model, or its base is missing.
    """
    try:
        record = parse(TrainedRecord, json.loads((folder / RECORD).read_text()))
    except (OSError, ValueError, ConfigError) as error:
        raise ModelError(f"folder '{folder}' holds no readable {RECORD}: {error}") from error
    base, config = record.base, record.adapter
    if (folder / MERGED).is_dir():
        base = _stored(base, folder / MERGED)
        return load_model(base), base
    if (folder / NATIVE).is_dir():
        return load_native(base, config, folder / NATIVE), base
    if config.tower != "vision":
        raise ModelError(f"folder '{folder}' holds no {MERGED}/, which a trained text tower is loaded from")
    return load_adapter(base, folder / ADAPTER), base


def load_adapter(base: ModelConfig, folder: Path, text: Path | None = None) -> VisionLanguageModel:
    """Loads stock PEFT adapters onto a pretrained model.

    Args:
        base: The pretrained model.
        folder: Adapter of the vision tower, or of the module that both towers share.
        text: Adapter of the text tower, where that is another module.

    Raises:
        ModelError: If the base is unknown, or a folder holds no adapter that fits it.
    """
    model = load_for_adapter(base)
    _attach(model, "vision", folder, base)
    if text is not None:
        _attach(model, "text", text, base)
    return model


def load_native(base: ModelConfig, config: AdapterConfig, folder: Path) -> VisionLanguageModel:
    """Loads a state onto a pretrained model.

    Raises:
        ModelError: If the base is unknown, or the folder holds no state that fits it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    adapted = adapt(load_model(base), config, 0)
    try:
        adapted.load_state(load_file(folder / STATE))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(f"the state in '{folder}' does not fit model '{base.name}': {error}") from error
    return adapted.model.requires_grad_(False).eval()


def _save_stock(
    adapted: AdaptedModel, base: ModelConfig, folder: Path, images: Tensor
) -> tuple[dict[str, Path], dict[str, dict[str, float]]]:
    paths = {MERGED: folder / MERGED}
    export_merged(adapted, paths[MERGED])
    stock = load_model(_stored(base, paths[MERGED]), split=False)
    errors = {MERGED: verify(MERGED, stock, adapted, images)}
    if no_adapter(adapted):
        return paths, errors
    modules: dict[TowerName, Path] = {}
    for tower in adapted.towers:
        apart = tower.name == "text" and tower.module is not adapted.model.tower("vision").module
        modules.setdefault("text" if apart else "vision", folder / (TEXT_ADAPTER if apart else ADAPTER))
    loaded = load_for_adapter(base)
    twin = twin_of(loaded)
    for name, path in modules.items():
        export_adapter(adapted, path, name, base)
        paths[path.name] = path
        _attach(loaded, name, path, base)
    errors[ADAPTER] = verify(ADAPTER, loaded, adapted, images)
    if twin is not None:
        paths[TWIN_ADAPTER] = folder / TWIN_ADAPTER
        errors[TWIN_ADAPTER] = _save_twin(adapted, twin, base, paths[TWIN_ADAPTER], images)
    return paths, errors


def _save_twin(adapted: AdaptedModel, twin: Twin, base: ModelConfig, folder: Path, images: Tensor) -> dict[str, float]:
    from peft import PeftModel

    export_twin_adapter(adapted, folder, twin, base)
    PeftModel.from_pretrained(twin.net, str(folder))
    return verify(TWIN_ADAPTER, twin, adapted, images)


def _save_native(
    adapted: AdaptedModel, base: ModelConfig, config: AdapterConfig, folder: Path, images: Tensor
) -> tuple[dict[str, Path], dict[str, dict[str, float]]]:
    paths = {NATIVE: folder / NATIVE}
    paths[NATIVE].mkdir(parents=True, exist_ok=True)
    write_tensors(adapted.state(), paths[NATIVE] / STATE)
    return paths, {NATIVE: verify(NATIVE, load_native(base, config, paths[NATIVE]), adapted, images)}


def _stored(base: ModelConfig, folder: Path) -> ModelConfig:
    """Returns the configuration of a model that was saved in a folder."""
    source = "transformers" if base.source == "transformers" else "open_clip"
    return ModelConfig(source=source, name=f"{LOCAL}{folder}")  # type: ignore[arg-type]


def _attach(model: VisionLanguageModel, tower: TowerName, folder: Path, base: ModelConfig) -> None:
    from peft import PeftConfig, PeftModel

    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"folder '{folder}' holds no adapter_config.json")
    module = model.tower(tower).module
    try:
        split = SPLIT in str(PeftConfig.from_pretrained(str(folder)).target_modules)
        PeftModel.from_pretrained(SplitTower(module) if split else module, str(folder))  # attaches inside the module
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"the adapter in '{folder}' does not fit model '{base.name}': {error}") from error
