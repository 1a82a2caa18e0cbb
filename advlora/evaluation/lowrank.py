"""Is a change of weights low-rank? Spectra of a change, and what is left of a model whose change is truncated."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from advlora.models.base import TowerName, VisionLanguageModel

ENERGY = 0.9


@dataclass(frozen=True)
class Spectrum:
    """What the singular values s of a change of a weight say.

    Attributes:
        values: s, descending, `(min(m, n),)`.
        rank_90: Fewest directions that hold 90 % of the energy sum s^2.
        stable_rank: ||D||_F^2 / ||D||_2^2 = sum s^2 / s_1^2 (Rudelson & Vershynin 2007).
        entropy_rank: exp of the entropy of the shares s^2 / sum s^2 (Roy & Vetterli 2007, on the energy).
        norm: ||D||_F relative to the norm of the weight before.
    """

    values: Tensor
    rank_90: int
    stable_rank: float
    entropy_rank: float
    norm: float

    def share(self, rank: int) -> float:
        """Returns the share of the energy that the leading directions hold."""
        energy = self.values.double().square()
        return float(energy[:rank].sum() / energy.sum().clamp_min(torch.finfo(energy.dtype).tiny))


def spectrum(before: Tensor, after: Tensor) -> Spectrum:
    """Returns the spectrum of the change of a weight `(m, n)`; all ranks of no change are 0."""
    change = after.detach().cpu().double() - before.detach().cpu().double()
    values = torch.linalg.svdvals(change)
    energy = values.square()
    total = float(energy.sum())
    if not total:
        return Spectrum(values.float(), 0, 0.0, 0.0, 0.0)
    shares = energy / total
    held = int((shares.cumsum(0) < ENERGY - 1e-12).sum()) + 1
    entropy = -(shares * shares.clamp_min(torch.finfo(shares.dtype).tiny).log()).sum()
    relative = float(change.norm() / before.detach().double().norm().cpu())
    return Spectrum(values.float(), held, total / float(energy[0]), float(entropy.exp()), relative)


def spectra(
    before: VisionLanguageModel, after: VisionLanguageModel, target: str = "all-linear", tower: TowerName = "vision"
) -> dict[str, Spectrum]:
    """Returns layer -> spectrum of the change of its weight.

    Args:
        before: The pretrained model.
        after: The trained one, adapters merged.
        target: Which layers, by role.
        tower: `vision` or `text`.
    """
    layers = before.tower(tower).layers(target)
    return {
        name: spectrum(layers[name].weight, layer.weight) for name, layer in after.tower(tower).layers(target).items()
    }


def truncated(change: Tensor, rank: int) -> Tensor:
    """Returns the best approximation of a change `(m, n)` of at most this rank, zero for rank 0 (Eckart & Young)."""
    u, s, vh = torch.linalg.svd(change.detach().double(), full_matrices=False)
    nearest: Tensor = ((u[:, :rank] * s[:rank]) @ vh[:rank]).to(change)
    return nearest


@torch.no_grad()
def truncated_model(
    before: VisionLanguageModel,
    after: VisionLanguageModel,
    rank: int,
    target: str = "all-linear",
    tower: TowerName = "vision",
) -> VisionLanguageModel:
    """Returns a copy of the trained model in which the changes of the target layers are truncated.

    All other parameters are those of the trained model: rank 0 is not the pretrained model.

    Args:
        before: The pretrained model.
        after: The trained one, adapters merged.
        rank: Rank to which every change is truncated.
        target: Which layers, by role.
        tower: `vision` or `text`.
    """
    model = copy.deepcopy(after)
    layers = before.tower(tower).layers(target)
    for name, layer in model.tower(tower).layers(target).items():
        start = layers[name].weight.to(layer.weight)
        layer.weight.copy_(start + truncated(layer.weight - start, rank))
    return model


def summary(found: dict[str, Spectrum]) -> dict[str, float]:
    """Returns the means over all layers: of the ranks, and of the energy that 8 and 16 directions hold."""
    means = {
        "rank_90": [float(each.rank_90) for each in found.values()],
        "stable_rank": [each.stable_rank for each in found.values()],
        "entropy_rank": [each.entropy_rank for each in found.values()],
        "relative_norm": [each.norm for each in found.values()],
        "energy_8": [each.share(8) for each in found.values()],
        "energy_16": [each.share(16) for each in found.values()],
    }
    return {name: sum(values) / len(values) for name, values in means.items()}
