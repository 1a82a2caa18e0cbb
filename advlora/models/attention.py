"""Self-attention with separate projections, in which low-rank adapters can attach to each one alone.

`nn.MultiheadAttention` keeps query, key and value in one matrix and reads `out_proj.weight` past the layer's own
`forward`; PEFT's adapter for it shares one A between the three and applies the update of `out_proj` twice.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

PROJECTIONS = ("q_proj", "k_proj", "v_proj")


class SplitAttention(nn.Module):
    """Drop-in for `nn.MultiheadAttention` without weights in the result: four `nn.Linear` around one SDPA call."""

    def __init__(self, fused: nn.MultiheadAttention) -> None:
        """Copies the weights of `fused`."""
        super().__init__()
        self.num_heads, self.batch_first, self.dropout = fused.num_heads, fused.batch_first, fused.dropout
        weight, bias = fused.in_proj_weight.detach(), fused.in_proj_bias
        biases = (None,) * 3 if bias is None else bias.detach().chunk(3)
        self.q_proj, self.k_proj, self.v_proj = map(_linear, weight.chunk(3), biases)
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
            inputs = [x.transpose(0, 1) for x in inputs]
        projected = (layer(x) for layer, x in zip((self.q_proj, self.k_proj, self.v_proj), inputs, strict=True))
        q, k, v = (x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2) for x in projected)
        mask = None if attn_mask is None else self._mask(attn_mask, q)
        dropout = self.dropout if self.training else 0.0
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        output = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return (output if self.batch_first else output.transpose(0, 1)), None

    def _mask(self, mask: Tensor, query: Tensor) -> Tensor:
        if mask.dim() == 3:
            mask = mask.reshape(-1, self.num_heads, *mask.shape[1:])
        return ~mask if mask.dtype == torch.bool else mask.to(query.dtype)


def split_attention(module: nn.Module) -> nn.Module:
    """Replaces, in place, every plain self-attention inside `module` by a `SplitAttention` of the same function."""
    for name, child in list(module.named_modules()):
        if _is_plain(child):
            module.set_submodule(name, SplitAttention(child))
    return module


def fused_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """Returns the state of `module` under the names it had before `split_attention`."""
    state: dict[str, Tensor] = dict(module.state_dict())
    for name, child in module.named_modules():
        if not isinstance(child, SplitAttention):
            continue
        for kind in ("weight", "bias"):
            keys = [f"{name}.{projection}.{kind}" for projection in PROJECTIONS]
            if keys[0] in state:
                state[f"{name}.in_proj_{kind}"] = torch.cat([state.pop(key) for key in keys])
    return state


def _is_plain(module: nn.Module) -> TypeGuard[nn.MultiheadAttention]:
    return (
        type(module) is nn.MultiheadAttention
        and module.in_proj_weight is not None
        and module.bias_k is None
        and not module.add_zero_attn
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
