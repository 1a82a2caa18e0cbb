"""A trained model on disk.

`adapter/` is for stock PEFT, `merged/` for stock open_clip;
`trained.json` says what was trained and how exact both are.
"""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor

from advlora.adapters.adapt import AdaptedModel
from advlora.adapters.export import export_adapter, export_merged, verify
from advlora.config import AdapterConfig, ModelConfig, parse
from advlora.errors import ModelError
from advlora.models import VisionLanguageModel, load_model
from advlora.models.open_clip import LOCAL, load_open_clip

RECORD, ADAPTER, MERGED = "trained.json", "adapter", "merged"


def save_trained(
    adapted: AdaptedModel, base: ModelConfig, config: AdapterConfig, folder: Path, sample_images: Tensor
) -> dict[str, Path]:
    """Exports a trained model and verifies each export by loading it back with the stock library.

    Args:
        adapted: The trained model.
        base: The pretrained model it started from.
        config: Its adapter.
        folder: Created where it is missing.
        sample_images: `(B, 3, H, W)` in [0, 1], on which the functions are compared.

    Returns:
        `merged`, and `adapter` where the method is low-rank.

    Raises:
        ExportError: If an export is not the function that was trained.
    """
    paths = {MERGED: folder / MERGED}
    export_merged(adapted, paths[MERGED])
    stock = load_open_clip(f"{LOCAL}{paths[MERGED]}", split=False)
    errors = {MERGED: verify(MERGED, stock, adapted, sample_images)}
    if adapted.layers:
        paths[ADAPTER] = folder / ADAPTER
        export_adapter(adapted, paths[ADAPTER])
        errors[ADAPTER] = verify(ADAPTER, load_adapter(base, paths[ADAPTER]), adapted, sample_images)
    record = {"base": base.model_dump(), "adapter": config.model_dump(), "export_errors": errors}
    (folder / RECORD).write_text(json.dumps(record, indent=2))
    return paths


def load_trained(folder: Path) -> tuple[VisionLanguageModel, ModelConfig]:
    """Loads what `save_trained` wrote: the merged model, or, where it was removed, the adapter on its base.

    Returns:
        The model, and a configuration by which its text tower can be loaded.

    Raises:
        ModelError: If the folder holds no trained model, or its base is missing.
    """
    try:
        base = parse(ModelConfig, json.loads((folder / RECORD).read_text())["base"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"folder '{folder}' holds no readable {RECORD}: {error}") from error
    if (folder / MERGED).is_dir():
        base = ModelConfig(source="open_clip", name=f"{LOCAL}{folder / MERGED}")
        return load_model(base), base
    return load_adapter(base, folder / ADAPTER), base


def load_adapter(base: ModelConfig, folder: Path) -> VisionLanguageModel:
    """Loads a stock PEFT LoRA adapter onto the vision tower of a pretrained model.

    Raises:
        ModelError: If the base is unknown, or the folder holds no adapter that fits it.
    """
    from peft import PeftModel

    model = load_model(base)
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"folder '{folder}' holds no adapter_config.json")
    try:
        PeftModel.from_pretrained(model.vision, str(folder))  # attaches its layers inside the tower
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"the adapter in '{folder}' does not fit model '{base.name}': {error}") from error
    return model
