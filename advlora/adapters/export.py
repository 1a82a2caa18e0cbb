"""Exports that stock libraries load: plain PEFT adapters, and merged weights. Both are verified."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from advlora.adapters.adapt import AdaptedModel
from advlora.adapters.methods import LowRankMethod, Update
from advlora.adapters.placement import names_for_peft
from advlora.adapters.readme import name_of_base, write_readme, write_twin_readme
from advlora.config import LowRankAdapter, ModelConfig
from advlora.models.attention import PROJECTIONS, SPLIT, SplitAttention, SplitProjection
from advlora.models.base import Tower, TowerName, VisionLanguageModel
from advlora.models.registry import TEXT_PREFIX
from advlora.models.tensors import write_tensors
from advlora.models.twin import Twin, hub_twin, twin_name
from advlora.numerics import computing

TOLERANCE = 1e-4
CAPTIONS = ("a photo of a cat", "two red boots on the floor", "dress")
"""On which exports of a trained text tower are compared."""


class ExportError(RuntimeError):
    """An export, loaded back, is not the function that was trained."""


def no_adapter(adapted: AdaptedModel) -> str | None:
    """Says why a trained model cannot be written as a PEFT adapter; None if it can."""
    config = adapted.config
    if not isinstance(config, LowRankAdapter):
        return f"adapter kind '{config.kind}' has no low-rank factors to export"
    if config.modules_to_save:
        return f"a PEFT adapter cannot hold {', '.join(config.modules_to_save)}; only the merged model has them"
    if not config.linear:
        return "behind a LayerNorm the update is not linear, so no PEFT adapter or merged weight is the same function"
    return None


@torch.no_grad()
def export_adapter(
    adapted: AdaptedModel, folder: Path, tower: TowerName = "vision", base: ModelConfig | None = None
) -> None:
    """Writes a stock PEFT adapter for the original module of a tower, and how it is loaded.

    Where `nn.MultiheadAttention` is split, layers are named inside a `SplitTower`, so that PEFT refuses to load the
    adapter on a fused model. For LoRA, the rank is that of the training where B started from zero; otherwise it is
    twice as high, to take out the start as well. Where the original has one layer for q, k and v, their updates become
    one block-diagonal update.

    Args:
        adapted: The trained model.
        folder: Created where it is missing.
        tower: The tower.
        base: The pretrained model, for whoever loads the adapter.

    Raises:
        ExportError: If the model cannot be written as an adapter.
    """
    module, updates = _tower_updates(adapted, tower)
    split = any(isinstance(module.get_submodule(name.rpartition(".")[0]), SplitAttention) for name in updates)
    prefix = f"{SPLIT}." if split else ""
    _write({prefix + name: update for name, update in updates.items()}, module, folder, base)
    write_readme(folder, tower, base, _trained_rank(adapted), kind=type(module).__name__, split=split)


@torch.no_grad()
def export_twin_adapter(adapted: AdaptedModel, folder: Path, twin: Twin, base: ModelConfig) -> None:
    """Writes the adapter of both towers for the `CLIPModel` that equals an open_clip model, and how it is loaded.

    Raises:
        ExportError: If the model cannot be written as an adapter.
    """
    updates: dict[str, Update] = {}
    for tower in adapted.towers:
        prefix = "visual." if tower.name == "vision" else ""
        updates |= {twin_name(prefix + name): update for name, update in _updates(adapted, tower).items()}
    _write(updates, twin.net, folder, base, hub_twin(base))
    write_twin_readme(folder, base, _trained_rank(adapted))


def _tower_updates(adapted: AdaptedModel, tower: TowerName) -> tuple[nn.Module, dict[str, Update]]:
    """Returns the module of a tower, and the updates of all towers that share it, by the original's layers."""
    if reason := no_adapter(adapted):
        raise ExportError(reason)
    module = adapted.model.tower(tower).module
    owners = [owner for owner in adapted.towers if owner.module is module]
    return module, _fused(module, {name: value for owner in owners for name, value in _updates(adapted, owner).items()})


def _trained_rank(adapted: AdaptedModel) -> int:
    assert isinstance(adapted.config, LowRankAdapter), "checked by `no_adapter`"
    return adapted.config.rank


def _write(
    updates: dict[str, Update], module: nn.Module, folder: Path, base: ModelConfig | None, hub: str | None = None
) -> None:
    from peft import LoraConfig

    tensors: dict[str, Tensor] = {}
    for name, update in updates.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = update.a
        tensors[f"base_model.model.{name}.lora_B.weight"] = update.b
        if update.magnitude is not None:
            tensors[f"base_model.model.{name}.lora_magnitude_vector"] = update.magnitude
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(tensors, folder / "adapter_model.safetensors")
    ranks = {name: len(update.a) for name, update in updates.items()}
    most = max(ranks.values())
    others = {name: rank for name, rank in ranks.items() if rank != most}
    LoraConfig(
        base_model_name_or_path=hub or (None if base is None else name_of_base(base)),
        r=most,
        lora_alpha=most,
        rank_pattern=others,
        alpha_pattern=dict(others),
        use_dora=any(update.magnitude is not None for update in updates.values()),
        target_modules=names_for_peft(updates, module),
        inference_mode=True,
    ).save_pretrained(folder)


def export_merged(adapted: AdaptedModel, folder: Path) -> None:
    """Writes the whole model, adapter merged, in the layout of the library that the pretrained model comes from.

    Raises:
        ExportError: If the update cannot be merged.
    """
    merged(adapted).save(folder)


def merged(adapted: AdaptedModel) -> VisionLanguageModel:
    """Returns a frozen copy on the CPU without adapter layers, of the same function.

    Raises:
        ExportError: If the update cannot be merged.
    """
    if not adapted.config.linear:
        raise ExportError(str(no_adapter(adapted)))
    with adapted.frozen():
        model = copy.deepcopy(adapted.model).cpu()
    for tower in adapted.towers:
        module = model.tower(tower.name).module
        for name in _own(adapted, tower):
            layer: Any = module.get_submodule(name)
            module.set_submodule(name, layer.get_base_layer())
    return model


@computing()
def verify(label: str, exported: VisionLanguageModel, adapted: AdaptedModel, images: Tensor) -> dict[str, float]:
    """Compares the embeddings of an export with those of the trained model; those of captions too if they changed.

    Args:
        label: Names the export in the message.
        exported: The export, loaded back.
        adapted: What was trained.
        images: `(B, 3, H, W)` in [0, 1].

    Returns:
        `unit`: largest absolute difference of unit-norm embeddings; `raw`: largest distance of two embeddings
        relative to the norm of the trained one.

    Raises:
        ExportError: If either is above 1e-4.
    """
    trained, loaded = (_embed(model, images, adapted.trains_text) for model in (adapted.model, exported))
    pairs = list(zip(trained, loaded, strict=True))
    unit = max(float((normalize(t, dim=-1) - normalize(e, dim=-1)).abs().max()) for t, e in pairs)
    raw = max(float(((t - e).norm(dim=-1) / t.norm(dim=-1)).max()) for t, e in pairs)
    errors = {"unit": unit, "raw": raw}
    if not (unit <= TOLERANCE and raw <= TOLERANCE and all(bool(e.isfinite().all()) for _, e in pairs)):
        raise ExportError(
            f"the {label} export differs from the trained model: unit-norm embeddings by {errors['unit']:.1e}, "
            f"raw ones by {errors['raw']:.1e} of their norm (allowed: {TOLERANCE:.0e})"
        )
    return errors


def _own(adapted: AdaptedModel, tower: Tower) -> dict[str, Any]:
    """Returns name inside the tower's module -> PEFT layer of that tower."""
    text = tower.name == "text"
    return {
        name.removeprefix(TEXT_PREFIX): layer
        for name, layer in adapted.layers.items()
        if name.startswith(TEXT_PREFIX) == text
    }


def _updates(adapted: AdaptedModel, tower: Tower) -> dict[str, Update]:
    method = adapted.method
    assert isinstance(method, LowRankMethod), "checked by `no_adapter`"
    return {name: method.update(layer) for name, layer in _own(adapted, tower).items()}


def _fused(module: nn.Module, updates: dict[str, Update]) -> dict[str, Update]:
    """Joins the updates of a `SplitProjection` to one of the layer that it stands for."""
    joined: dict[str, Update] = {}
    for name, update in updates.items():
        parent = name.rpartition(".")[0]
        owner = module.get_submodule(parent)
        if not isinstance(owner, SplitProjection):
            joined[name] = update
        elif parent not in joined:
            joined[parent] = _block_diagonal(owner, [updates.get(f"{parent}.{part}") for part in PROJECTIONS])
    return joined


def _block_diagonal(owner: SplitProjection, parts: list[Update | None]) -> Update:
    """Returns the update of the fused layer; a part without adapter keeps its rows."""
    weights = [_weight(getattr(owner, part)) for part in PROJECTIONS]
    blocks = [w.new_zeros(len(w), 0) if part is None else part.b for part, w in zip(parts, weights, strict=True)]
    b = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]  # torch
    a = torch.cat([part.a for part in parts if part is not None])
    if all(part is None or part.magnitude is None for part in parts):
        return Update(b, a)
    rows = [
        w.norm(dim=1) if part is None or part.magnitude is None else part.magnitude
        for part, w in zip(parts, weights, strict=True)
    ]
    return Update(b, a, torch.cat(rows))


def _weight(layer: Any) -> Tensor:
    base = layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer
    weight: Tensor = base.weight
    return weight


@torch.no_grad()
def _embed(model: VisionLanguageModel, images: Tensor, texts: bool) -> list[Tensor]:
    """Embeds on the CPU in eval mode, on a copy: neither device nor mode of the original changes."""
    twin = copy.deepcopy(model).cpu().eval()
    pixels = images.detach().cpu().float()
    found = [twin.embed(pixels)]
    if texts:
        found.append(twin.encode_texts(CAPTIONS))
    if twin.matches:
        found.append(twin.score_pairs(pixels[:1].expand(len(CAPTIONS), -1, -1, -1), CAPTIONS)[None])
    return found
