"""Ingredient 2, alignment: the low-rank product B A follows the pretrained weight, at the start and in training.

In training the product is pulled towards a target T. What the layer lacks is its start, so T = a0 s B0 A0 is the one
target whose minimiser is the pretrained function; the others are kept for comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Product:
    """A product B A `(m, n)`, which is never formed.

    Attributes:
        b: `(m, r)`, everything that scales the product included.
        a: `(r, n)`.
    """

    b: Tensor
    a: Tensor

    def inner(self, other: Product) -> Tensor:
        """Returns <B A, B' A'> from two small Gram matrices."""
        return ((self.b.T @ other.b) * (self.a @ other.a.T)).sum()

    def inner_weight(self, weight: Tensor) -> Tensor:
        """Returns <B A, W>."""
        return (self.b * (weight @ self.a.T)).sum()

    def minus(self, other: Product) -> Product:
        """Returns B A - B' A' = (B - B') A + B' (A - A'), for a product of the same rank.

        In this form no large numbers cancel: the difference of a product from itself is exactly zero.
        """
        return Product(torch.cat([self.b - other.b, other.b], 1), torch.cat([self.a, self.a - other.a]))


class StartTarget(nn.Module):
    """The target T = a0 s B0 A0: the start, which the frozen weight lacks."""

    def squared_distance(self, product: Product, start: Product, residual: Tensor) -> Tensor:
        """Returns ||B A - T||_F^2.

        Args:
            product: B A.
            start: a0 s B0 A0.
            residual: The frozen weight W0 - a0 s B0 A0 `(m, n)`.
        """
        difference = product.minus(start)
        return difference.inner(difference)


class WeightTarget(StartTarget):
    """The target T = W0: the pretrained weight, which no product of low rank reaches."""

    def squared_distance(self, product: Product, start: Product, residual: Tensor) -> Tensor:
        """See the base class."""
        inner = product.inner_weight(residual) + product.inner(start)
        norm = residual.square().sum() + 2 * start.inner_weight(residual) + start.inner(start)
        return product.inner(product) - 2 * inner + norm


class ClusterTarget(StartTarget):
    """The target T = S C: the weight with every row (or column) replaced by its centroid."""

    def __init__(self, clustering: Clustering) -> None:
        super().__init__()
        self.axis = clustering.axis
        self.centroids: Tensor
        self.assignment: Tensor
        self.register_buffer("centroids", clustering.centroids.clone(), persistent=False)
        self.register_buffer("assignment", clustering.assignment.clone(), persistent=False)

    def squared_distance(self, product: Product, start: Product, residual: Tensor) -> Tensor:
        """See the base class."""
        return product.inner(product) - 2 * self.inner(product) + self.squared_norm()

    def inner(self, product: Product) -> Tensor:
        """Returns <B A, S C> as the sum over clusters of <S^T B, C A^T>; for columns, with B and A^T exchanged."""
        b, a = product.b, product.a
        assigned, free = (b, a.T) if self.axis == "rows" else (a.T, b)
        summed = assigned.new_zeros(len(self.centroids), assigned.shape[1]).index_add(0, self.assignment, assigned)
        return (summed * (self.centroids @ free)).sum()

    def squared_norm(self) -> Tensor:
        """Returns ||S C||_F^2."""
        counts = torch.bincount(self.assignment, minlength=len(self.centroids))
        return (counts * self.centroids.square().sum(1)).sum()
