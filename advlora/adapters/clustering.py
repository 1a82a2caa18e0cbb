"""Ingredient 1, clustering: k-means on the rows or columns of a pretrained weight.

The centroids C and the one-hot assignment S approximate the weight by S C, a matrix of rank at most K.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from advlora.adapters.memo import content_hash, recall
from advlora.config.inits import ClusterInit
from advlora.identity import fingerprint
from advlora.randomness import seed_of

Axis = Literal["rows", "columns"]
Algorithm = Literal["kmeans", "spherical", "random"]
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Clustering:
    """Clusters of the P rows (or columns) of a weight `(m, n)`, each a point of dimension d.

    Attributes:
        centroids: C `(K, d)`.
        assignment: Cluster of each point, int64 `(P,)`; S is its one-hot matrix.
        counts: Points of each cluster `(K,)`.
        explained_variance: Share of the weight's squared Frobenius norm that S C holds; comparable with the share of
            the leading squared singular values.
        axis: Whether the points are rows or columns.
    """

    centroids: Tensor
    assignment: Tensor
    counts: Tensor
    explained_variance: float
    axis: Axis

    def matrix(self) -> Tensor:
        """Returns the approximation of the weight `(m, n)`: every row (column) replaced by its centroid."""
        rows = self.centroids[self.assignment]  # (K, d) -> (P, d)
        return rows if self.axis == "rows" else rows.T

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """Factorises the approximation.

        Args:
            rank: At most this many directions; with fewer clusters there are K.

        Returns:
            B `(m, k)` and A `(k, n)` with k = min(rank, K). For K = rank, A holds the centroids and B the assignment.
            Otherwise B A is the best approximation of rank k, from the SVD of the count-weighted centroids. Column j
            of B and row j of A have the same norm.
        """
        weights = self.counts.clamp_min(1).sqrt()  # (K,)
        if rank == len(self.centroids):
            left, right = torch.diag(1 / weights), weights[:, None] * self.centroids  # (K, K), (K, d)
        else:
            u, s, vh = torch.linalg.svd(weights[:, None] * self.centroids, full_matrices=False)
            k = min(rank, len(self.centroids))
            left, right = u[:, :k] / weights[:, None], s[:k, None] * vh[:k]  # (K, k), (k, d)
        scale = right.norm(dim=1).sqrt()
        right = right / scale.where(scale > 0, 1)[:, None]
        spread = (left * scale)[self.assignment]  # (K, k) -> (P, k)
        return (spread, right) if self.axis == "rows" else (right.T, spread.T)


def kmeans(
    weight: Tensor,
    clusters: int,
    *,
    iterations: int = 25,
    seed: int = 0,
    axis: Axis = "rows",
    algorithm: Algorithm = "kmeans",
    restarts: int = 1,
) -> Clustering:
    """Lloyd's algorithm from a k-means++ start (Arthur & Vassilvitskii, 2007), deterministic for a seed.

    Args:
        weight: `(m, n)`; read as float32 on the CPU.
        clusters: K, at most the number of points.
        iterations: At most this many; stops once the inertia falls by less than one in ten thousand.
        seed: Seed of the k-means++ draws.
        axis: Cluster the rows or the columns.
        algorithm: `spherical` assigns by the angle (Dhillon & Modha, 2001), `random` draws equal parts; in both,
            the centroids are the means of the points, so that S C is the best approximation for the assignment.
        restarts: How many runs there are; the one with the least inertia counts.
    """
    points = weight.detach().to("cpu", torch.float32)
    points = (points if axis == "rows" else points.T).contiguous()  # (P, d)
    seeds = [seed, *(seed_of(seed, "restart", run) for run in range(1, restarts))]
    runs = [_run(points, clusters, iterations, torch.Generator().manual_seed(each), algorithm) for each in seeds]
    centroids, assignment, _ = min(runs, key=lambda run: run[2])
    counts = torch.bincount(assignment, minlength=clusters)
    held = (counts * centroids.square().sum(1)).sum() / points.square().sum(1).sum().clamp_min(torch.finfo().tiny)
    return Clustering(centroids, assignment, counts, float(held), axis)


def clustered(weight: Tensor, init: ClusterInit, rank: int, seed: int, folder: Path | None = None) -> Clustering:
    """Returns the clusters of a weight, computed once per content and settings.

    Args:
        weight: `(m, n)`.
        init: How many clusters of what, and how they are found.
        rank: The number of clusters where `init` leaves it open.
        seed: The seed where `init` leaves it open.
        folder: Shares the result between processes; None keeps it in this one.
    """
    settings = init.model_dump(exclude={"kind"}) | {"algorithm": init.algorithm}
    settings |= {"clusters": init.clusters or rank, "seed": seed if init.seed is None else init.seed}

    def compute() -> dict[str, Tensor]:
        found = kmeans(weight, **settings)
        share = torch.tensor(found.explained_variance, dtype=torch.float64)
        return {"centroids": found.centroids, "assignment": found.assignment, "counts": found.counts, "share": share}

    stored = recall(f"{init.algorithm}-{content_hash(weight)}-{fingerprint(settings)}", compute, folder)
    return Clustering(stored["centroids"], stored["assignment"], stored["counts"], float(stored["share"]), init.axis)


def _run(
    points: Tensor, clusters: int, iterations: int, generator: torch.Generator, algorithm: Algorithm
) -> tuple[Tensor, Tensor, float]:
    """Returns centroids, assignment and inertia of one run."""
    if algorithm == "random":
        assignment = torch.randperm(len(points), generator=generator) % clusters
        return (*_means(points, assignment, torch.zeros(len(points)), clusters), 0.0)
    if algorithm == "kmeans":
        return _lloyd(points, clusters, iterations, generator)
    unit = normalize(points, dim=1)
    _, assignment, inertia = _lloyd(unit, clusters, iterations, generator, spherical=True)
    return (*_means(points, assignment, torch.zeros(len(points)), clusters), inertia)


def _lloyd(
    points: Tensor, clusters: int, iterations: int, generator: torch.Generator, *, spherical: bool = False
) -> tuple[Tensor, Tensor, float]:
    """Returns centroids, assignment and inertia; `spherical` keeps the centroids on the unit sphere."""
    lengths = points.square().sum(1)
    centroids = _plus_plus(points, lengths, clusters, generator)
    previous = inertia = float("inf")
    for _ in range(iterations):
        distance, assignment = _distances(points, lengths, centroids).min(1)  # (P, K) -> (P,), (P,)
        centroids, assignment = _means(points, assignment, distance, clusters)
        if spherical:
            centroids = normalize(centroids, dim=1)
        inertia = float(distance.sum())
        if inertia > (1 - TOLERANCE) * previous:
            break
        previous = inertia
    return centroids, assignment, inertia


def _plus_plus(points: Tensor, lengths: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    first = int(torch.randint(len(points), (1,), generator=generator))
    chosen, nearest = [first], _distances(points, lengths, points[[first]])[:, 0]
    while len(chosen) < clusters:
        # The floor lets duplicates be drawn once every distinct point is a centroid.
        chosen.append(int(torch.multinomial(nearest + torch.finfo().tiny, 1, generator=generator)))
        nearest = torch.minimum(nearest, _distances(points, lengths, points[[chosen[-1]]])[:, 0])  # (P,)
    return points[chosen]


def _distances(points: Tensor, lengths: Tensor, centroids: Tensor) -> Tensor:
    """Returns squared distances `(P, K)`; `lengths` are the squared norms of the points."""
    # |p|^2 - 2 p c + |c|^2: (P, 1) - (P, K) + (K,); rounding may leave it below zero
    return (lengths[:, None] - 2 * (points @ centroids.T) + centroids.square().sum(1)).clamp_min(0)


def _means(points: Tensor, assignment: Tensor, distance: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """Moves every centroid to the mean of its points; an empty cluster first takes the point that fits worst."""
    counts = torch.bincount(assignment, minlength=clusters)
    for empty in (counts == 0).nonzero()[:, 0]:
        lonely = distance.where(counts[assignment] > 1, -1).argmax()
        counts[assignment[lonely]] -= 1
        assignment[lonely], counts[empty], distance[lonely] = empty, 1, 0
    sums = points.new_zeros(clusters, points.shape[1]).index_add_(0, assignment, points)  # (P, d) -> (K, d)
    return sums / counts[:, None], assignment
