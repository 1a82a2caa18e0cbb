"""Initialisations of the two factors, one function per class of `advlora.config.inits`.

Each returns B `(m, r)` and A `(r, n)`. With LoRA's scale s, the residual form subtracts the product s B A from the
frozen weight, so that the function is the pretrained one until the first step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advlora.adapters.alignment import refit
from advlora.adapters.clustering import Clustering, clustered
from advlora.adapters.memo import content_hash, recall
from advlora.config import LoraAdapter
from advlora.config.inits import (
    ClusterInit,
    GaussianInit,
    Init,
    KMeansInit,
    MiloraInit,
    NormMatchedInit,
    OloraInit,
    PissaInit,
    RandomClustersInit,
    SphericalKMeansInit,
)

Pair = tuple[Tensor, Tensor]
"""B `(m, r)` and A `(r, n)`."""


@dataclass(frozen=True)
class Start:
    """Everything an adapter's start depends on, besides the weight.

    Attributes:
        config: The configuration of the adapter, with the rank of the layer.
        seed: The trial's seed.
        folder: Where k-means and SVD are shared between processes; None for this process only.
    """

    config: LoraAdapter
    seed: int
    folder: Path | None = None

    @property
    def rank(self) -> int:
        """The rank of the layer."""
        return self.config.rank

    def factors(self, weight: Tensor) -> Pair:
        """Returns B and A on the weight's device."""
        source = weight.detach().to("cpu", torch.float32)
        init, alignment = self.config.init, self.config.alignment
        b, a = INITS[type(init)](init, source, self)
        if alignment.starts:
            b = refit(source, a, alignment.ridge) / self.config.scaling
        return b.to(weight).contiguous(), a.to(weight).contiguous()

    def scaled(self, b: Tensor, a: Tensor) -> Pair:
        """Divides the factors of a product by the square root of s each, so that s B A is the product."""
        root = self.config.scaling**0.5
        return b / root, a / root

    def clustering(self, init: ClusterInit, weight: Tensor) -> Clustering:
        """Returns the clusters of the weight."""
        return clustered(weight, init, self.rank, self.seed, self.folder)

    def gaussian(self, weight: Tensor) -> Tensor:
        """Returns a Gaussian A `(r, n)` of the standard deviation of PEFT's (uniform) default, 1 / sqrt(3 n)."""
        shape = (self.rank, weight.shape[1])
        return torch.randn(shape, generator=self.generator(weight)) * math.sqrt(1 / (3 * weight.shape[1]))

    def generator(self, weight: Tensor) -> torch.Generator:
        """Returns random numbers for a weight."""
        # Seeded by content: matrices differ from each other, and their order does not matter.
        return torch.Generator().manual_seed((int(content_hash(weight)[:15], 16) + self.seed) % 2**63)


Runner = Callable[[Any, Tensor, Start], Pair]
INITS: dict[type[Init], Runner] = {}
"""Class of the configuration -> function that runs it."""


def init_of(*configs: type[Init]) -> Callable[[Runner], Runner]:
    """Registers the function that initialises the factors as some classes of configurations say.

    It takes the configuration, the weight W0 `(m, n)` in float32 on the CPU, and the `Start`.
    """

    def register(runner: Runner) -> Runner:
        INITS.update(dict.fromkeys(configs, runner))
        return runner

    return register


@init_of(GaussianInit)
def _gaussian(init: GaussianInit, weight: Tensor, start: Start) -> Pair:
    return weight.new_zeros(len(weight), start.rank), start.gaussian(weight)


@init_of(KMeansInit, SphericalKMeansInit, RandomClustersInit)
def _clusters(init: ClusterInit, weight: Tensor, start: Start) -> Pair:
    b, a = start.scaled(*start.clustering(init, weight).factors(start.rank))
    missing = start.rank - len(a)
    if not missing:
        return b, a
    # The directions that the clusters leave over start as in LoRA: Gaussian A, zero B.
    return torch.cat([b, b.new_zeros(len(b), missing)], 1), torch.cat([a, start.gaussian(weight)[:missing]])


@init_of(NormMatchedInit)
def _norm_matched(init: NormMatchedInit, weight: Tensor, start: Start) -> Pair:
    b0, a0 = start.clustering(init, weight).factors(start.rank)
    generator = start.generator(weight)
    b = torch.randn(len(weight), start.rank, generator=generator)
    a = torch.randn(start.rank, weight.shape[1], generator=generator)
    scale = (_product_norm(b0, a0) / _product_norm(b, a)).sqrt()
    return start.scaled(b * scale, a * scale)


@init_of(PissaInit)
def _pissa(init: PissaInit, weight: Tensor, start: Start) -> Pair:
    return start.scaled(*singular(weight, start.rank, folder=start.folder))


@init_of(MiloraInit)
def _milora(init: MiloraInit, weight: Tensor, start: Start) -> Pair:
    return start.scaled(*singular(weight, start.rank, minor=True, folder=start.folder))


@init_of(OloraInit)
def _olora(init: OloraInit, weight: Tensor, start: Start) -> Pair:
    """Returns B = Q[:, :r] and A = R[:r, :] of W0 = Q R.

    As in PEFT, s is not divided out: B keeps orthonormal columns, and s B A is s times the truncated product.
    """
    q, r = torch.linalg.qr(weight)
    return q[:, : start.rank], r[: start.rank]


def singular(weight: Tensor, rank: int, *, minor: bool = False, folder: Path | None = None) -> Pair:
    """Returns B = U sqrt(S) and A = sqrt(S) V^T of the leading or trailing singular directions, computed once."""

    def compute() -> dict[str, Tensor]:
        u, s, vh = torch.linalg.svd(weight, full_matrices=False)
        part = slice(-rank, None) if minor else slice(rank)
        root = s[part].sqrt()
        return {"b": u[:, part] * root, "a": root[:, None] * vh[part]}

    stored = recall(f"svd-{content_hash(weight)}-{rank}-{'minor' if minor else 'major'}", compute, folder)
    return stored["b"], stored["a"]


def _product_norm(b: Tensor, a: Tensor) -> Tensor:
    """Returns ||B A||_F from two small Gram matrices."""
    return ((b.T @ b) * (a @ a.T)).sum().clamp_min(0).sqrt()
