"""Starts of the two factors: clustered, and the controls it is compared with.

Every start returns B `(m, r)` and A `(r, n)`; with LoRA's scale s, the product that the residual form subtracts from
the weight is s B A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from advlora.adapters.alignment import refit
from advlora.adapters.clustering import Clustering, clustered
from advlora.adapters.memo import content_hash, recall
from advlora.config import AdapterConfig


@dataclass(frozen=True)
class Start:
    """Everything an adapter's start depends on, besides the weight.

    Attributes:
        config: The adapter's configuration.
        seed: The trial's seed.
        folder: Where k-means and SVD are shared between processes; None for this process only.
    """

    config: AdapterConfig
    seed: int
    folder: Path | None = None

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Returns B and A on the weight's device."""
        source = weight.detach().to("cpu", torch.float32)
        b, a = self._raw(source)
        alignment = self.config.alignment
        if alignment.enabled and alignment.at != "training":
            b = refit(source, a, alignment.ridge) / self.config.scaling
        return b.to(weight).contiguous(), a.to(weight).contiguous()

    def clustering(self, weight: Tensor) -> Clustering:
        """Returns the k-means of the weight."""
        settings = self.config.clustering
        seed = self.seed if settings.seed is None else settings.seed
        return clustered(
            weight,
            self.config.clusters,
            iterations=settings.iterations,
            seed=seed,
            axis=settings.axis,
            algorithm=settings.algorithm,
            restarts=settings.restarts,
            folder=self.folder,
        )

    def _raw(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        root, rank = self.config.scaling**0.5, self.config.rank
        if self.config.clustering.enabled:
            b, a = self.clustering(weight).factors(rank)
            return self._padded(weight, b / root, a / root)
        if self.config.start == "norm_matched":
            b, a = self._norm_matched(weight)
        elif self.config.start == "gaussian":
            return weight.new_zeros(len(weight), rank), self._gaussian(weight)
        else:
            b, a = singular(weight, rank, minor=self.config.start == "minor_svd", folder=self.folder)
        return b / root, a / root

    def _padded(self, weight: Tensor, b: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """Fills the directions that the clusters leave over as LoRA starts: Gaussian A, zero B."""
        missing = self.config.rank - len(a)
        if not missing:
            return b, a
        return torch.cat([b, b.new_zeros(len(b), missing)], 1), torch.cat([a, self._gaussian(weight)[:missing]])

    def _gaussian(self, weight: Tensor) -> Tensor:
        """Gaussian A of the standard deviation that PEFT's (uniform) default has, 1 / sqrt(3 n)."""
        shape = (self.config.rank, weight.shape[1])
        return torch.randn(shape, generator=self._generator(weight)) * math.sqrt(1 / (3 * weight.shape[1]))

    def _norm_matched(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Random directions; the product has the Frobenius norm that the clustered start's product has."""
        b0, a0 = self.clustering(weight).factors(self.config.rank)
        generator, rank = self._generator(weight), self.config.rank
        b, a = (
            torch.randn(len(weight), rank, generator=generator),
            torch.randn(rank, len(weight.T), generator=generator),
        )
        scale = (_product_norm(b0, a0) / _product_norm(b, a)).sqrt()
        return b * scale, a * scale

    def _generator(self, weight: Tensor) -> torch.Generator:
        # Seeded by content: matrices differ from each other, and their order does not matter.
        return torch.Generator().manual_seed((int(content_hash(weight)[:15], 16) + self.seed) % 2**63)


def singular(weight: Tensor, rank: int, *, minor: bool = False, folder: Path | None = None) -> tuple[Tensor, Tensor]:
    """Returns B = U sqrt(S) and A = sqrt(S) V^T of some singular directions; computed once per weight.

    The leading ones (PiSSA, Meng et al. 2024), or the trailing ones (MiLoRA, Wang et al. 2024).
    """

    def compute() -> dict[str, Tensor]:
        u, s, vh = torch.linalg.svd(weight, full_matrices=False)
        part = slice(-rank, None) if minor else slice(rank)
        root = s[part].sqrt()
        return {"b": u[:, part] * root, "a": root[:, None] * vh[part]}

    stored = recall(f"svd-{content_hash(weight)}-{rank}-{'minor' if minor else 'major'}", compute, folder)
    return stored["b"], stored["a"]


def _product_norm(b: Tensor, a: Tensor) -> Tensor:
    return ((b.T @ b) * (a @ a.T)).sum().clamp_min(0).sqrt()
