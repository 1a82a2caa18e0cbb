"""Exports that stock libraries load: plain PEFT adapters, and merged weights. Both are verified."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from advlora.adapters.adapt import AdaptedModel
from advlora.adapters.placement import names_for_peft
from advlora.models.attention import PROJECTIONS, SplitProjection
from advlora.models.base import Tower, TowerName, VisionLanguageModel
from advlora.models.registry import TEXT_PREFIX

TOLERANCE = 1e-4
CAPTIONS = ("a photo of a cat", "two red boots on the floor", "dress")
"""On which exports of a trained text tower are compared."""


class ExportError(RuntimeError):
    """An export, loaded back, is not the function that was trained."""


@dataclass(frozen=True)
class Factors:
    """An update of a weight in the form that PEFT knows.

    Attributes:
        b: `(m, r)`, everything that scales the product included.
        a: `(r, n)`.
        magnitude: Norm of each row of the adapted weight `(m,)`; DoRA only.
    """

    b: Tensor
    a: Tensor
    magnitude: Tensor | None = None


def no_adapter(adapted: AdaptedModel) -> str | None:
    """Says why a trained model cannot be written as a PEFT adapter; None if it can."""
    config = adapted.config
    if not adapted.layers:
        return f"adapter kind '{config.kind}' has no low-rank factors to export"
    if config.also:
        return f"a PEFT adapter cannot hold {', '.join(config.also)}; only the merged model has them"
    if config.norm_before:
        return "behind a LayerNorm the update is not linear, so no PEFT adapter or merged weight is the same function"
    return None


@torch.no_grad()
def export_adapter(adapted: AdaptedModel, folder: Path, tower: TowerName = "vision") -> None:
    """Writes a stock PEFT adapter for the original module of a tower, `nn.MultiheadAttention` split.

    `peft.PeftModel.from_pretrained(load_for_adapter(...).tower(tower).module, folder)` loads it. For LoRA, the rank is
    that of the training where B started from zero; otherwise twice as high, for it also takes out the start:
    [s B diag(alpha), -a0 s B0] [A; A0]. Where the original has one layer for q, k and v, their updates become one
    block-diagonal update.

    Raises:
        ExportError: If the model cannot be written as an adapter.
    """
    from peft import LoraConfig
    from safetensors.torch import save_file

    if reason := no_adapter(adapted):
        raise ExportError(reason)
    module = adapted.model.tower(tower).module
    owners = [owner for owner in adapted.towers if owner.module is module]
    updates = _fused(module, {name: value for owner in owners for name, value in _updates(adapted, owner).items()})
    tensors: dict[str, Tensor] = {}
    for name, update in updates.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = update.a
        tensors[f"base_model.model.{name}.lora_B.weight"] = update.b
        if update.magnitude is not None:
            tensors[f"base_model.model.{name}.lora_magnitude_vector"] = update.magnitude
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    ranks = {name: len(update.a) for name, update in updates.items()}
    most = max(ranks.values())
    others = {name: rank for name, rank in ranks.items() if rank != most}
    LoraConfig(
        r=most,
        lora_alpha=most,
        rank_pattern=others,
        alpha_pattern=dict(others),
        use_dora=adapted.config.kind == "dora",
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
    """Returns a copy on the CPU without adapter layers, of the same function.

    Raises:
        ExportError: If the update cannot be merged.
    """
    if adapted.config.norm_before:
        raise ExportError(str(no_adapter(adapted)))
    twin = copy.deepcopy(adapted)
    twin.model.cpu()
    for tower in twin.towers:
        for name, layer in _own(twin, tower).items():
            layer.merge()
            tower.module.set_submodule(name, layer.get_base_layer())
    return twin.model


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


def _updates(adapted: AdaptedModel, tower: Tower) -> dict[str, Factors]:
    layers, kind = _own(adapted, tower), adapted.config.kind
    if kind == "adalora":
        return {name: _of_adalora(layer) for name, layer in layers.items()}
    if kind == "dora":
        return {name: _of_dora(layer) for name, layer in layers.items()}
    pairs = {name: layer.scaled_factors() for name, layer in layers.items()}
    anchors = {name: layer.anchors["default"] for name, layer in layers.items()}
    if not any(anchor.b0.any() for anchor in anchors.values()):
        return {name: Factors(b, a) for name, (b, a) in pairs.items()}
    return {
        name: Factors(
            torch.cat([b, -anchors[name].factor * anchors[name].b0], 1), torch.cat([a, anchors[name].a0])
        )
        for name, (b, a) in pairs.items()
    }  # fmt: skip


def _of_adalora(layer: Any) -> Factors:
    scale = layer.scaling["default"] / (layer.ranknum["default"] + 1e-5)  # as in PEFT's own `get_delta_weight`
    return Factors(scale * layer.lora_B["default"], layer.lora_A["default"] * layer.lora_E["default"])


def _of_dora(layer: Any) -> Factors:
    b, a = layer.lora_B["default"].weight, layer.lora_A["default"].weight
    return Factors(layer.scaling["default"] * b, a, layer.lora_magnitude_vector["default"].weight)


def _fused(module: nn.Module, updates: dict[str, Factors]) -> dict[str, Factors]:
    """Joins the updates of a `SplitProjection` to one of the layer that it stands for."""
    joined: dict[str, Factors] = {}
    for name, update in updates.items():
        parent = name.rpartition(".")[0]
        owner = module.get_submodule(parent)
        if not isinstance(owner, SplitProjection):
            joined[name] = update
        elif parent not in joined:
            joined[parent] = _block_diagonal(owner, [updates.get(f"{parent}.{part}") for part in PROJECTIONS])
    return joined


def _block_diagonal(owner: SplitProjection, parts: list[Factors | None]) -> Factors:
    """Returns the update of the fused layer; a part without adapter keeps its rows."""
    weights = [_weight(getattr(owner, part)) for part in PROJECTIONS]
    blocks = [w.new_zeros(len(w), 0) if part is None else part.b for part, w in zip(parts, weights, strict=True)]
    b = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]  # torch
    a = torch.cat([part.a for part in parts if part is not None])
    if all(part is None or part.magnitude is None for part in parts):
        return Factors(b, a)
    rows = [
        w.norm(dim=1) if part is None or part.magnitude is None else part.magnitude
        for part, w in zip(parts, weights, strict=True)
    ]
    return Factors(b, a, torch.cat(rows))


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
