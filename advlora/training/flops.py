"""Counts floating-point operations while they run: what is measured, beside the formulas of `cost`.

Counted is what torch's counter knows: matrix products, convolutions and attention, of all towers and passes, forward
and backward. What is left out (normalisation, activations, softmax, the optimiser) is little beside it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from advlora.models import VisionLanguageModel

Shape = tuple[int, ...]


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]  # torch


def _attention_backward(
    gradient: Shape, query: Shape, key: Shape, value: Shape, *_: Any, out_shape: Any = None, **__: Any
) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))  # type: ignore[no-untyped-call]  # torch


MISSING = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""Attention on the CPU, which torch's counter passes over; its kernels on a GPU are known to it."""


def counter() -> FlopCounterMode:
    """Returns a context; `get_total_flops()` says what was computed inside."""
    return FlopCounterMode(display=False, custom_mapping=MISSING)


@torch.no_grad()
def forward_flops(model: VisionLanguageModel, images: Tensor) -> float:
    """Counts F, the floating-point operations of one image, or video, that passes a vision tower.

    Args:
        model: On the CPU.
        images: uint8, `(N, 3, H, W)` or `(N, F, 3, H, W)`; the first is used.
    """
    with counter() as counted:
        model.embed(images[:1].float() / 255)
    return float(counted.get_total_flops())
