"""Where an adapter goes: layers and ranks by role, and the small parameters that may be trained beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn

from advlora.config import LowRankAdapter
from advlora.errors import ModelError
from advlora.models.base import Tower

POSITION = re.compile(r"(.+\.)?(positional_embedding|pos_embed|position_embeddings?(\.weight)?)")
NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.BatchNorm2d)
ADAPTER = ".lora_"


def layer_ranks(tower: Tower, config: LowRankAdapter) -> dict[str, int]:
    """Returns layer inside the tower's module -> rank.

    Raises:
        ModelError: If the tower has no layers of the target, or not so many blocks.
    """
    layers = tower.layers(config.target, config.blocks)
    return {name: config.rank_of(tower.roles.role(name)) for name in layers}


def small_parameters(tower: Tower, kinds: Iterable[str]) -> dict[str, nn.Parameter]:
    """Returns the parameters of some kinds: norms, biases, patch and position embedding, projection.

    Raises:
        ModelError: If the tower has none of a kind.
    """
    found: dict[str, nn.Parameter] = {}
    for kind in kinds:
        matches = _of_kind(tower, kind)
        if not matches:
            raise ModelError(
                f"adapter.modules_to_save: the {tower.name} tower {type(tower.module).__name__} has no '{kind}'"
            )
        found |= matches
    return found


def projection(tower: Tower) -> dict[str, nn.Parameter]:
    """Returns the parameters of the final projection into the joint space.

    Raises:
        ModelError: If there is none.
    """
    found = _of_kind(tower, "projection")
    if not found:
        raise ModelError(f"adapter.kind 'linear_probe' trains the final projection '{tower.projection.rstrip('.')}', "
                         f"which the {tower.name} tower {type(tower.module).__name__} does not have")  # fmt: skip
    return found


def names_for_peft(names: Iterable[str], module: nn.Module) -> list[str] | str:
    """Returns the layers for PEFT's `target_modules`, which also takes every layer whose name only ends like one.

    A list where that does no harm, else a regular expression of the full names.
    """
    wanted = sorted(names)
    endings = tuple(f".{name}" for name in wanted)
    if any(other.endswith(endings) for other, _ in module.named_modules()):
        return "|".join(map(re.escape, wanted))
    return wanted


def _of_kind(tower: Tower, kind: str) -> dict[str, nn.Parameter]:
    parameters = {name: value for name, value in tower.parameters().items() if ADAPTER not in name}
    if kind == "position_embedding":
        return {name: value for name, value in parameters.items() if POSITION.fullmatch(name)}
    if kind == "projection":
        prefix = tower.projection
        return {name: value for name, value in parameters.items() if prefix and name.startswith(prefix)}
    owners = {name: _owner(tower.module, name) for name in parameters}
    if kind == "norms":
        return {name: value for name, value in parameters.items() if isinstance(owners[name], NORMS)}
    if kind == "patch_embedding":
        return {name: value for name, value in parameters.items() if isinstance(owners[name], nn.Conv2d)}
    return {
        name: value
        for name, value in parameters.items()
        if name.endswith("bias") and not isinstance(owners[name], (*NORMS, nn.Conv2d))
    }


def _owner(module: nn.Module, parameter: str) -> nn.Module:
    return module.get_submodule(parameter.rpartition(".")[0])
