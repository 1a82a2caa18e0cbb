"""Target roles: which linear layers of a vision tower an adapter attaches to."""

from __future__ import annotations

import re

from torch import nn

from advlora.errors import ModelError

ATTENTION = ("attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.out_proj")
MLP = ("mlp.c_fc", "mlp.c_proj")
ROLES: dict[str, tuple[str, ...]] = {
    "attention": ATTENTION,
    "attention-qv": ("attn.q_proj", "attn.v_proj"),
    "mlp": MLP,
    "all-linear": ATTENTION + MLP,
}
"""Role -> layers of one transformer block. The final projection into the joint space belongs to none."""


def target_layers(vision: nn.Module, target: str) -> dict[str, nn.Linear]:
    """Returns name -> layer of every block's linear layers of a role.

    Raises:
        ModelError: If the tower has no such layers.
    """
    found: dict[str, nn.Linear] = {}
    absent = []
    for layer in ROLES[target]:
        pattern = re.compile(rf"(.+\.)?resblocks\.\d+\.{re.escape(layer)}")
        matches = {
            name: module
            for name, module in vision.named_modules()
            if pattern.fullmatch(name) and isinstance(module, nn.Linear)
        }
        found |= matches
        absent += [] if matches else [layer]
    if absent:
        raise ModelError(f"adapter.target '{target}' needs transformer blocks with {', '.join(absent)}, "
                         f"which the vision tower {type(vision).__name__} does not have")  # fmt: skip
    return {name: found[name] for name, _ in vision.named_modules() if name in found}
