"""Self-attention with separate projections, so that a low-rank adapter can attach to each of them.

`nn.MultiheadAttention` keeps query, key and value in one matrix and reads `out_proj.weight` without calling the
layer's `forward`; PEFT's adapter for it shares one A between the three and applies the update of `out_proj` twice.
timm and BLIP use one linear layer `qkv`, in which an adapter of rank r would share A between the three as well.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

PROJECTIONS = ("q_proj", "k_proj", "v_proj")
SPLIT = "split_attention"


class SplitAttention(nn.Module):
    """Drop-in for `nn.MultiheadAttention` that returns no weights: four `nn.Linear` around one SDPA call."""

    def __init__(self, fused: nn.MultiheadAttention) -> None:
        """Copies the weights of `fused`."""
        super().__init__()
        self.num_heads, self.batch_first, self.dropout = fused.num_heads, fused.batch_first, fused.dropout
        weight, bias = fused.in_proj_weight.detach(), fused.in_proj_bias
        biases = (None,) * 3 if bias is None else bias.detach().chunk(3)
        self.q_proj, self.k_proj, self.v_proj = map(_linear, weight.chunk(3), biases)  # (3 D, D) -> three (D, D)
        self.out_proj = _linear(fused.out_proj.weight, fused.out_proj.bias)
        self.train(fused.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        *,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """Attends.

        Args:
            query: `(B, L, D)`, or `(L, B, D)` where `batch_first` is false.
            key: `(B, S, D)`; by default the query.
            value: `(B, S, D)`; by default the query.
            need_weights: Must be false.
            attn_mask: `(L, S)` or `(B * heads, L, S)`; added to the scores, or true where attention is forbidden.

        Raises:
            ValueError: If `need_weights` is set; the fused kernel does not expose them.
        """
        if need_weights:
            raise ValueError("SplitAttention does not return attention weights; call it with need_weights=False")
        inputs = [query, query if key is None else key, query if value is None else value]
        if not self.batch_first:
            inputs = [x.transpose(0, 1) for x in inputs]  # (L, B, D) -> (B, L, D)
        projected = (layer(x) for layer, x in zip((self.q_proj, self.k_proj, self.v_proj), inputs, strict=True))
        # (B, L, D) -> (B, L, heads, d) -> (B, heads, L, d)
        q, k, v = (x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2) for x in projected)
        mask = None if attn_mask is None else self._mask(attn_mask, q)
        dropout = self.dropout if self.training else 0.0
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        output = self.out_proj(mixed.transpose(1, 2).flatten(2))  # (B, heads, L, d) -> (B, L, D)
        return (output if self.batch_first else output.transpose(0, 1)), None

    def _mask(self, mask: Tensor, query: Tensor) -> Tensor:
        if mask.dim() == 3:
            mask = mask.reshape(-1, self.num_heads, *mask.shape[1:])  # (B * heads, L, S) -> (B, heads, L, S)
        # True forbids attention in `nn.MultiheadAttention` and allows it in SDPA.
        return ~mask if mask.dtype == torch.bool else mask.to(query.dtype)


class SplitTower(nn.Module):
    """A module with split `nn.MultiheadAttention` under a name of its own, by which adapters address its layers.

    An adapter of such names finds no layer in a model whose attention is fused, so PEFT refuses to load it there.
    By the bare names PEFT would attach what it finds and silently leave out query, key and value.
    """

    def __init__(self, module: nn.Module) -> None:
        """Takes the module; adapters that are attached here are attached inside it."""
        super().__init__()
        self.split_attention = module

    def forward(self, *inputs: Tensor) -> Tensor:
        """Runs the module."""
        output: Tensor = self.split_attention(*inputs)
        return output


class SplitProjection(nn.Module):
    """Drop-in for one `nn.Linear` that computes query, key and value: three of them, their outputs concatenated."""

    def __init__(self, fused: nn.Linear) -> None:
        """Copies the weights of `fused`, whose rows are query, key and value in this order."""
        super().__init__()
        weight, bias = fused.weight.detach(), fused.bias
        biases = (None,) * 3 if bias is None else bias.detach().chunk(3)
        self.q_proj, self.k_proj, self.v_proj = map(_linear, weight.chunk(3), biases)  # (3 D, D) -> three (D, D)
        self.train(fused.training)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(..., D)` to `(..., 3 D)`."""
        return torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], -1)

    def fused(self) -> nn.Linear:
        """Returns the one layer of the same function."""
        layers = (self.q_proj, self.k_proj, self.v_proj)
        bias = None if self.q_proj.bias is None else torch.cat([layer.bias.detach() for layer in layers])
        return _linear(torch.cat([layer.weight.detach() for layer in layers]), bias)


def split_attention(module: nn.Module, *, multihead: bool = True, projections: bool = True) -> nn.Module:
    """Replaces, in place, every fused self-attention inside `module` by one of the same function with separate q, k, v.

    Args:
        module: Holds the attention.
        multihead: Whether `nn.MultiheadAttention` is split.
        projections: Whether attention with one linear layer `qkv` (timm, BLIP) is split.
    """
    for name, child in list(module.named_modules()):
        if multihead and _is_plain(child):
            module.set_submodule(name, SplitAttention(child))
        elif projections and _is_fused(module, name, child):
            module.set_submodule(name, SplitProjection(child))
    return module


def fuse_projections(module: nn.Module) -> nn.Module:
    """Replaces, in place, every `SplitProjection` inside `module` by its one linear layer."""
    for name, child in list(module.named_modules()):
        if isinstance(child, SplitProjection):
            module.set_submodule(name, child.fused())
    return module


def fused_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """Returns the state of `module` under the names it had before `split_attention`."""
    state: dict[str, Tensor] = dict(module.state_dict())
    for name, child in module.named_modules():
        if not isinstance(child, (SplitAttention, SplitProjection)):
            continue
        fused = f"{name}.in_proj_" if isinstance(child, SplitAttention) else f"{name}."
        for kind in ("weight", "bias"):
            keys = [f"{name}.{projection}.{kind}" for projection in PROJECTIONS]
            if keys[0] in state:
                state[f"{fused}{kind}"] = torch.cat([state.pop(key) for key in keys])
    return state


def _is_plain(module: nn.Module) -> TypeGuard[nn.MultiheadAttention]:
    return (
        type(module) is nn.MultiheadAttention
        and module.in_proj_weight is not None
        and module.bias_k is None
        and not module.add_zero_attn
    )


def _is_fused(root: nn.Module, name: str, module: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a layer is a `qkv` that its attention calls; EVA's attention bypasses it where it has a `q_bias`."""
    parent, _, leaf = name.rpartition(".")
    return (
        leaf == "qkv"
        and type(module) is nn.Linear
        and module.out_features == 3 * module.in_features
        and getattr(root.get_submodule(parent), "q_bias", None) is None
    )


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    rows, columns = weight.shape
    # Made on the meta device, because initialising real memory would draw from the global random state.
    layer = nn.Linear(columns, rows, bias=bias is not None, device="meta", dtype=weight.dtype)
    layer = layer.to_empty(device=weight.device)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer
