"""Exports that stock libraries load: a plain PEFT LoRA adapter, and merged open_clip weights. Both are verified."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from advlora.adapters.adapt import AdaptedModel
from advlora.models.base import VisionLanguageModel

TOLERANCE = 1e-4


class ExportError(RuntimeError):
    """An export, loaded back, is not the function that was trained."""


@torch.no_grad()
def export_adapter(adapted: AdaptedModel, folder: Path) -> None:
    """Writes a stock PEFT LoRA adapter for the original vision tower with split attention.

    `peft.PeftModel.from_pretrained(load_model(...).vision, folder)` loads it. Its rank is that of the training where
    B started from zero; otherwise twice as high, for it also takes out the start: [s B diag(alpha), -a0 s B0] [A; A0].

    Raises:
        ExportError: If the model has no low-rank adapter.
    """
    from peft import LoraConfig
    from safetensors.torch import save_file

    if not adapted.layers:
        raise ExportError(f"adapter kind '{adapted.config.kind}' has no low-rank factors to export")
    pairs = {name: layer.scaled_factors() for name, layer in adapted.layers.items()}
    anchors = {name: layer.anchors["default"] for name, layer in adapted.layers.items()}
    if any(anchor.b0.any() for anchor in anchors.values()):
        pairs = {
            name: (torch.cat([b, -anchors[name].factor * anchors[name].b0], 1), torch.cat([a, anchors[name].a0]))
            for name, (b, a) in pairs.items()
        }
    tensors: dict[str, Tensor] = {}
    for name, (b, a) in pairs.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = a.cpu().clone().contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = b.cpu().clone().contiguous()
    rank = len(next(iter(pairs.values()))[1])
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    LoraConfig(r=rank, lora_alpha=rank, target_modules=sorted(pairs), inference_mode=True).save_pretrained(folder)


def export_merged(adapted: AdaptedModel, folder: Path) -> None:
    """Writes the whole model, adapter merged, in the layout of the library that the pretrained model comes from."""
    merged(adapted).save(folder)


def merged(adapted: AdaptedModel) -> VisionLanguageModel:
    """Returns a copy on the CPU without adapter layers, of the same function."""
    model = copy.deepcopy(adapted.model).cpu()
    for name in adapted.layers:
        layer = model.vision.get_submodule(name)
        layer.merge()  # type: ignore[operator]
        model.vision.set_submodule(name, layer.get_base_layer())  # type: ignore[operator]
    return model


def verify(label: str, exported: VisionLanguageModel, adapted: AdaptedModel, images: Tensor) -> dict[str, float]:
    """Compares the embeddings of an export with those of the trained model.

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
    trained, loaded = (_embed(model, images) for model in (adapted.model, exported))
    unit = (normalize(trained, dim=-1) - normalize(loaded, dim=-1)).abs().max()
    raw = ((trained - loaded).norm(dim=-1) / trained.norm(dim=-1)).max()
    errors = {"unit": float(unit), "raw": float(raw)}
    if not max(errors.values()) <= TOLERANCE:
        raise ExportError(
            f"the {label} export differs from the trained model: unit-norm embeddings by {errors['unit']:.1e}, "
            f"raw ones by {errors['raw']:.1e} of their norm (allowed: {TOLERANCE:.0e})"
        )
    return errors


@torch.no_grad()
def _embed(model: VisionLanguageModel, images: Tensor) -> Tensor:
    """Embeds on the CPU in eval mode, on a copy: neither device nor mode of the original changes."""
    twin = copy.deepcopy(model).cpu().eval()
    return twin.encode_images(images.detach().cpu().float())
