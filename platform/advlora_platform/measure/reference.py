"""From what a person calls a model to the model itself: a folder, a file, a name, or the MLflow run of a trial."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Literal, get_args

import torch

from advlora.adapters import load_adapter, load_trained
from advlora.adapters.trained import ADAPTER, RECORD, TEXT_ADAPTER, TWIN_ADAPTER
from advlora.config import HUB, LOCAL, ModelConfig, expanded, parse
from advlora.errors import ConfigError, ModelError, did_you_mean
from advlora.identity import DIGITS
from advlora.models import VisionLanguageModel, embedded_models, load_model, load_vision_weights
from advlora_platform.measure.subject import Subject

Source = Literal["embedded", "open_clip", "transformers"]
RUN_ID = re.compile(r"[0-9a-f]{32}")
WHOLE = "a checkpoint of a whole open_clip model is named ARCHITECTURE:FILE"


def load_subject(reference: str, base: str | None = None, study: Path | None = None) -> Subject:
    """Loads a model.

    Args:
        reference: A `model/` folder, an adapter, a merged checkpoint, a file of vision weights, the run id of a
            finished trial, or a name: `NAME` of an embedded model, `ARCHITECTURE:TAG` or `ARCHITECTURE:FILE` of
            open_clip, `hf-hub:NAME`, `transformers:NAME`.
        base: The pretrained model that it started from, by name or folder.
        study: Where the study of a run lies.

    Raises:
        UserError: If there is no such model, or what it needs is missing.
    """
    pretrained = None if base is None else model_config(base)
    path = Path(expanded(reference))
    if path.is_dir():
        return _folder(path, pretrained)
    if path.is_file():
        return _vision_weights(path, pretrained)
    if RUN_ID.fullmatch(reference):
        from advlora_platform.measure.trials import load_trial  # loads MLflow

        return load_trial(reference, study)
    return _named(reference, pretrained)


def model_config(reference: str) -> ModelConfig:
    """Returns the configuration of a pretrained model.

    Args:
        reference: `[SOURCE:]NAME[:TAG, FILE or REVISION]`, `hf-hub:NAME`, or a folder.

    Raises:
        ConfigError: If neither an embedded model nor an architecture has that name, or the folder holds no model.
    """
    folder = Path(expanded(reference))
    if folder.is_dir():
        return _stored(folder)
    if reference.startswith(HUB):
        return ModelConfig(source="open_clip", name=reference)
    first, _, rest = reference.partition(":")
    if first in get_args(Source):
        prefix = next((prefix for prefix in (HUB, LOCAL) if rest.startswith(prefix)), "")
        name, _, pretrained = rest.removeprefix(prefix).partition(":")
        name = prefix + name
        return parse(ModelConfig, {"source": first, "name": name, "pretrained": pretrained or None})
    if reference in embedded_models():
        return ModelConfig(source="embedded", name=reference)
    import open_clip

    known = open_clip.list_models()
    if first.replace("/", "-") not in known:
        nearest = did_you_mean(first, [*embedded_models(), *known])
        raise ConfigError(
            f"'{reference}' is no folder, file, run id, embedded model or open_clip architecture "
            f"(one of transformers is named transformers:NAME, one of open_clip on the hub hf-hub:NAME){nearest}"
        )
    return ModelConfig(source="open_clip", name=first, pretrained=rest or None)


def weights_hash(network: VisionLanguageModel) -> str:
    """Hashes name and content of every parameter and buffer, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(content.numpy().tobytes())
    return digest.hexdigest()[:DIGITS]


def name_of(config: ModelConfig) -> str:
    """Names a pretrained model for people: of folders and files no more than their last parts."""
    if config.name.startswith(LOCAL):
        return _short(Path(expanded(config.name).removeprefix(LOCAL)))
    if config.pretrained is None:
        return config.name
    file = Path(expanded(config.pretrained))
    return f"{config.name}:{file.stem if file.is_file() else config.pretrained}"


def _folder(folder: Path, base: ModelConfig | None) -> Subject:
    if (folder / RECORD).is_file():
        network, _ = load_trained(folder)
        return Subject(network, _short(folder), "trained", base or _recorded_base(folder))
    if (folder / "adapter_config.json").is_file():
        return _adapter(folder, base or _recorded_base(folder.parent))
    config = _stored(folder)
    return Subject(load_model(config), _short(folder), "checkpoint", base or _recorded_base(folder.parent))


def _adapter(folder: Path, base: ModelConfig | None) -> Subject:
    """Loads a stock PEFT adapter; that of the text tower lies beside it where both towers were trained."""
    if folder.name == TEXT_ADAPTER:
        raise ConfigError(f"'{folder}' is the text tower's part of an adapter; name '{folder.parent / ADAPTER}'")
    if folder.name == TWIN_ADAPTER:
        raise ConfigError(f"'{folder}' is the adapter for transformers' model; name '{folder.parent / ADAPTER}'")
    if base is None:
        raise ConfigError(f"adapter '{folder}' has no {RECORD} beside it; name its pretrained model with --base NAME")
    text = folder.parent / TEXT_ADAPTER
    network = load_adapter(base, folder, text if folder.name == ADAPTER and text.is_dir() else None)
    return Subject(network, _short(folder), "adapter", base)


def _vision_weights(file: Path, base: ModelConfig | None) -> Subject:
    """Loads a file such as the published robust CLIP models, which hold the vision tower alone."""
    if base is None:
        raise ConfigError(
            f"file '{file}' alone says no architecture: for weights of a vision tower name the pretrained model "
            f"with --base NAME; {WHOLE}"
        )
    return Subject(load_vision_weights(base, file), _short(file), "vision weights", base)


def _named(reference: str, base: ModelConfig | None) -> Subject:
    config = model_config(reference)
    on_disk = config.pretrained is not None and Path(expanded(config.pretrained)).is_file()
    try:
        network = load_model(config)
    except ModelError as error:
        if not on_disk:
            raise
        hint = "; weights of a vision tower alone are named FILE --base NAME"
        raise ModelError([f"{problem}{hint}" for problem in error.problems]) from error
    if on_disk:
        return Subject(network, name_of(config), "checkpoint", base)
    return Subject(network, name_of(config), "pretrained", base or config, changed=base not in (None, config))


def _stored(folder: Path) -> ModelConfig:
    if (folder / "open_clip_config.json").is_file():
        return ModelConfig(source="open_clip", name=f"{LOCAL}{folder}")
    if (folder / "config.json").is_file():
        return ModelConfig(source="transformers", name=f"{LOCAL}{folder}")
    raise ConfigError(
        f"folder '{folder}' holds no {RECORD}, adapter_config.json, open_clip_config.json or config.json, "
        "by which a model is known"
    )


def _recorded_base(folder: Path) -> ModelConfig | None:
    """Returns the pretrained model that the record of a training names; None without one."""
    try:
        return parse(ModelConfig, json.loads((folder / RECORD).read_text())["base"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _short(path: Path) -> str:
    """Names a path as it was given, or by its last parts if it begins at the root."""
    return "/".join(path.parts[-2:] if path.is_absolute() else path.parts)
