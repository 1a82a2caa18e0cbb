"""Ingredient 2, alignment: the low-rank product B A follows the pretrained weight, at the start and in training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from advlora.adapters.clustering import Clustering


def refit(weight: Tensor, a: Tensor, ridge: float) -> Tensor:
    """Fits B to the weight by ridge least squares for a given A.

    `B = W0 A^T (A A^T + rho I)^-1` with rho = `ridge` times the mean diagonal of A A^T.

    Args:
        weight: W0 `(m, n)`.
        a: A `(r, n)`.
        ridge: Relative ridge.

    Returns:
        B `(m, r)`.
    """
    weight64, a64 = weight.detach().double(), a.detach().double()
    gram = a64 @ a64.T
    level = (ridge * gram.diagonal().mean()).clamp_min(torch.finfo(torch.float32).tiny)
    identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    fitted: Tensor = torch.linalg.solve(gram + level * identity, a64 @ weight64.T).T
    return fitted.to(a.dtype).contiguous()


class ClusterTarget(nn.Module):
    """The target T = S C: the weight with every row (or column) replaced by its centroid. T is never formed."""

    def __init__(self, clustering: Clustering) -> None:
        super().__init__()
        self.axis = clustering.axis
        self.centroids: Tensor
        self.assignment: Tensor
        self.register_buffer("centroids", clustering.centroids.clone(), persistent=False)
        self.register_buffer("assignment", clustering.assignment.clone(), persistent=False)

    def inner(self, b: Tensor, a: Tensor) -> Tensor:
        """Returns <B A, S C> as the sum over clusters of <S^T B, C A^T>; for columns, with B and A^T exchanged."""
        assigned, free = (b, a.T) if self.axis == "rows" else (a.T, b)
        summed = assigned.new_zeros(len(self.centroids), assigned.shape[1]).index_add(0, self.assignment, assigned)
        return (summed * (self.centroids @ free)).sum()

    def squared_norm(self) -> Tensor:
        """Returns ||S C||_F^2."""
        counts = torch.bincount(self.assignment, minlength=len(self.centroids))
        return (counts * self.centroids.square().sum(1)).sum()


def product_inner(b: Tensor, a: Tensor, b0: Tensor, a0: Tensor) -> Tensor:
    """Returns <B A, B0 A0> from two small Gram matrices."""
    return ((b.T @ b0) * (a @ a0.T)).sum()


def weight_inner(b: Tensor, a: Tensor, weight: Tensor) -> Tensor:
    """Returns <B A, W>."""
    return (b * (weight @ a.T)).sum()


def misfit(b: Tensor, a: Tensor, inner: Tensor, squared_norm: Tensor) -> Tensor:
    """Returns ||B A - T||_F^2 / ||T||_F^2 by expanding the square; neither B A nor the difference is formed.

    Args:
        b: `(m, r)`, everything that scales the product included.
        a: `(r, n)`.
        inner: <B A, T>.
        squared_norm: ||T||_F^2.
    """
    norm = squared_norm.clamp_min(torch.finfo(squared_norm.dtype).tiny)
    return ((product_inner(b, a, b, a) - 2 * inner) / norm + 1).clamp_min(0)
