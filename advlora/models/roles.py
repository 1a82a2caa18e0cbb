"""Target roles: which linear layers of a tower an adapter attaches to, whatever its library calls them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields

from torch import nn

from advlora.errors import ModelError

ATTENTION = ("query", "key", "value", "output")
MLP = ("up", "down")
ROLES: dict[str, tuple[str, ...]] = {
    "attention": ATTENTION,
    "attention-qv": ("query", "value"),
    "mlp": MLP,
    "all-linear": ATTENTION + MLP,
}
"""Target -> roles in one transformer block. The final projection into the joint space belongs to none."""


@dataclass(frozen=True)
class RoleMap:
    """The names that a library gives to the linear layers of a transformer block.

    Attributes:
        block: Regular expression of a block's name; its group is the number of the block.
        query: Names inside the block, likewise for the other roles; several layers may have the same role.
    """

    block: str
    query: tuple[str, ...]
    key: tuple[str, ...]
    value: tuple[str, ...]
    output: tuple[str, ...]
    up: tuple[str, ...]
    down: tuple[str, ...]

    def layers(self, target: str) -> tuple[str, ...]:
        """Returns the names inside a block that a target asks for."""
        return tuple(layer for role in ROLES[target] for layer in getattr(self, role))

    def role(self, name: str) -> str:
        """Returns the role of a layer by its full name.

        Raises:
            ValueError: If it has none.
        """
        match = re.match(rf"{self.block}\.(.+)", name)
        layer = match.group(match.re.groups) if match else ""
        for field in fields(self)[1:]:
            if layer in getattr(self, field.name):
                return field.name
        raise ValueError(f"layer '{name}' has no role")


OPEN_CLIP = RoleMap(
    r"(?:.+\.)?resblocks\.(\d+)",
    query=("attn.q_proj",),
    key=("attn.k_proj",),
    value=("attn.v_proj",),
    output=("attn.out_proj",),
    up=("mlp.c_fc",),
    down=("mlp.c_proj",),
)
TIMM = RoleMap(
    r"trunk\.blocks\.(\d+)",
    query=("attn.qkv.q_proj",),
    key=("attn.qkv.k_proj",),
    value=("attn.qkv.v_proj",),
    output=("attn.proj",),
    up=("mlp.fc1",),
    down=("mlp.fc2",),
)


def target_layers(
    module: nn.Module,
    target: str,
    roles: RoleMap = OPEN_CLIP,
    *,
    blocks: tuple[int, int] | None = None,
    parts: tuple[str, ...] = (),
    tower: str = "",
) -> dict[str, nn.Linear]:
    """Returns name -> layer of the linear layers of a target in every block, or in a range of blocks.

    Args:
        module: Holds the blocks.
        target: A key of `ROLES`.
        roles: The names of the library.
        blocks: First and last block, both included; negative ones count from the end. None for all.
        parts: Prefixes of the names that count; empty for all.
        tower: Names the tower in messages; empty for the class of `module`.

    Raises:
        ModelError: If the tower has no such layers, or not so many blocks.
    """
    found: dict[str, tuple[nn.Linear, int]] = {}
    absent = []
    named = [(name, layer) for name, layer in module.named_modules() if not parts or name.startswith(parts)]
    for layer in roles.layers(target):
        pattern = re.compile(rf"{roles.block}\.{re.escape(layer)}")
        matches = {
            name: (candidate, int(match.group(1)))
            for name, candidate in named
            if (match := pattern.fullmatch(name)) and isinstance(candidate, nn.Linear)
        }
        found |= matches
        absent += [] if matches else [layer]
    if absent:
        raise ModelError(f"adapter.target '{target}' needs transformer blocks with {', '.join(absent)}, "
                         f"which the {tower or type(module).__name__} does not have; no low-rank adapter fits there, "
                         "but adapter.kind: full does")  # fmt: skip
    chosen = _range(blocks, {block for _, block in found.values()})
    return {name: found[name][0] for name, _ in named if name in found and found[name][1] in chosen}


def _range(blocks: tuple[int, int] | None, there: Iterable[int]) -> range:
    count = max(there) + 1
    if blocks is None:
        return range(count)
    first, last = (block + count if block < 0 else block for block in blocks)
    if not 0 <= first <= last < count:
        raise ModelError(
            f"adapter.blocks: {list(blocks)} is not a range of the blocks 0 to {count - 1} "
            f"(first and last, both included; -1 is the last)"
        )
    return range(first, last + 1)
