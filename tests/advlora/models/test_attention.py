from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from advlora.models.attention import SplitAttention, fused_state_dict, split_attention

pytestmark = pytest.mark.unit

LENGTH, BATCH, WIDTH, HEADS = 5, 3, 8, 2


def attention(**options) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(WIDTH, HEADS, **options).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def masks() -> dict[str, torch.Tensor | None]:
    torch.manual_seed(1)
    additive = torch.randn(LENGTH, LENGTH)
    forbidden = torch.rand(LENGTH, LENGTH) > 0.6
    forbidden.fill_diagonal_(False)
    return {
        "none": None,
        "additive": additive,
        "forbidden": forbidden,
        "per head": torch.randn(BATCH * HEADS, LENGTH, LENGTH),
    }


@pytest.mark.parametrize("mask", ["none", "additive", "forbidden", "per head"])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_stock(mask: str, batch_first: bool, bias: bool) -> None:
    stock = attention(batch_first=batch_first, bias=bias)
    x = torch.randn((BATCH, LENGTH, WIDTH) if batch_first else (LENGTH, BATCH, WIDTH))
    expected, _ = stock(x, x, x, need_weights=False, attn_mask=masks()[mask])
    actual, weights = SplitAttention(stock)(x, x, x, need_weights=False, attn_mask=masks()[mask])
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=0)
    assert weights is None


@pytest.mark.parametrize("batch_first", [True, False])
def test_cross_attention_equals_stock(batch_first: bool) -> None:
    stock = attention(batch_first=batch_first)
    query, other = torch.randn(4, 4, WIDTH), torch.randn(4, 4, WIDTH)
    expected, _ = stock(query, other, 2 * other, need_weights=False)
    torch.testing.assert_close(SplitAttention(stock)(query, other, 2 * other)[0], expected, atol=2e-5, rtol=0)


def test_gradients_equal_stock() -> None:
    stock = attention(batch_first=True)
    x = torch.randn(BATCH, LENGTH, WIDTH)
    gradients = []
    for module in (stock, SplitAttention(stock)):
        leaf = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(module(leaf, leaf, leaf, need_weights=False)[0].square().sum(), leaf)[0])
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-4, rtol=1e-4)


def test_dropout_only_in_training() -> None:
    split = SplitAttention(attention(batch_first=True, dropout=0.5))
    x = torch.randn(BATCH, LENGTH, WIDTH)
    assert torch.equal(split.eval()(x)[0], split(x)[0])
    assert not torch.equal(split.train()(x)[0], split(x)[0])


def test_weights_are_not_returned() -> None:
    split = SplitAttention(attention(batch_first=True))
    with pytest.raises(ValueError, match="need_weights=False"):
        split(torch.randn(1, 2, WIDTH), need_weights=True)


def test_tower_equals_stock_and_state_returns(stock: nn.Module) -> None:
    split = split_attention(copy.deepcopy(stock.visual))
    images = torch.randn(4, 3, 16, 16)
    assert not any(isinstance(module, nn.MultiheadAttention) for module in split.modules())
    torch.testing.assert_close(split(images), stock.visual(images), atol=2e-5, rtol=0)
    state, expected = fused_state_dict(split), stock.visual.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_leaves_other_attention_alone() -> None:
    different_keys = nn.Sequential(nn.MultiheadAttention(WIDTH, HEADS, kdim=3, vdim=3))
    assert type(split_attention(different_keys)[0]) is nn.MultiheadAttention


def test_global_random_state_is_kept() -> None:
    fused = attention()
    before = torch.random.get_rng_state()
    SplitAttention(fused)
    assert torch.equal(torch.random.get_rng_state(), before)
