from __future__ import annotations

import pytest
import torch
from torch import Tensor

from advlora.adapters.alignment import ClusterTarget, misfit, product_inner, refit, weight_inner
from advlora.adapters.clustering import kmeans

pytestmark = pytest.mark.unit


@pytest.fixture
def tensors() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=generator) for shape in ((20, 9), (20, 4), (4, 9)))


def test_refit_without_ridge_is_least_squares(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    weight, _, a = tensors
    expected = torch.linalg.lstsq(a.T.double(), weight.T.double()).solution.T
    torch.testing.assert_close(refit(weight, a, 1e-12).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("ridge", [1e-3, 0.5])
def test_refit_is_ridge_least_squares(tensors: tuple[Tensor, Tensor, Tensor], ridge: float) -> None:
    weight, _, a = (tensor.double() for tensor in tensors)
    level = (ridge * (a @ a.T).diagonal().mean()).sqrt()
    design = torch.cat([a.T, level * torch.eye(4, dtype=a.dtype)])
    observed = torch.cat([weight.T, torch.zeros(4, 20, dtype=a.dtype)])
    expected = torch.linalg.lstsq(design, observed).solution.T
    torch.testing.assert_close(refit(weight, a, ridge), expected)


def test_refit_does_not_depend_on_the_scale_of_a(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    weight, _, a = tensors
    torch.testing.assert_close(refit(weight, 10 * a, 0.1) @ (10 * a), refit(weight, a, 0.1) @ a)


def test_refit_to_zero_is_finite() -> None:
    assert not refit(torch.ones(3, 4), torch.zeros(2, 4), 1e-3).any()


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_cluster_misfit_is_the_dense_formula(tensors: tuple[Tensor, Tensor, Tensor], axis: str) -> None:
    weight, b, a = (tensor.double() for tensor in tensors)
    clusters = kmeans(weight.float(), 5, axis=axis)
    target, dense = ClusterTarget(clusters).double(), clusters.matrix().double()
    leaves = [b.clone().requires_grad_(), a.clone().requires_grad_()]
    value = misfit(*leaves, target.inner(*leaves), target.squared_norm())
    twins = [b.clone().requires_grad_(), a.clone().requires_grad_()]
    expected = (twins[0] @ twins[1] - dense).square().sum() / dense.square().sum()
    torch.testing.assert_close(value, expected)
    gradients, wanted = torch.autograd.grad(value, leaves), torch.autograd.grad(expected, twins)
    torch.testing.assert_close(gradients, wanted)


def test_inner_products_are_dense_ones(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    weight, b, a = (tensor.double() for tensor in tensors)
    torch.testing.assert_close(weight_inner(b, a, weight), ((b @ a) * weight).sum())
    b0, a0 = torch.randn_like(b)[:, :3], torch.randn_like(a)[:3]
    torch.testing.assert_close(product_inner(b, a, b0, a0), ((b @ a) * (b0 @ a0)).sum())


def test_misfit_of_the_target_itself_is_zero(tensors: tuple[Tensor, Tensor, Tensor]) -> None:
    clusters = kmeans(tensors[0], 4)
    target, factors = ClusterTarget(clusters), clusters.factors(4)
    assert misfit(*factors, target.inner(*factors), target.squared_norm()) == pytest.approx(0, abs=1e-5)
