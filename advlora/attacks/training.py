"""From a `TrainingAttackConfig` to attacked images."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from advlora.attacks.gradient import PerSample, fgsm_rs, n_fgsm, pgd
from advlora.attacks.registry import in_training
from advlora.attacks.threat import Threat
from advlora.config.training_attacks import (
    AdversarialConfig,
    FgsmRs,
    NFgsm,
    NoAttack,
    TrainingAttackConfig,
    TrainPgd,
)
from advlora.distributed import SOLO, Group
from advlora.randomness import Streams


@dataclass
class Epoch:
    """What the batches of an epoch share; every epoch gets a new one.

    Attributes:
        seed: The trial's seed.
        number: Counts from 0.
        group: The processes that share the batches.
        perturbation: `(1, 3, H, W)`, carried from batch to batch by an attack that improves one for all images.
    """

    seed: int = 0
    number: int = 0
    group: Group = SOLO
    perturbation: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """What an attack of training works on.

    Attributes:
        loss: What training minimises, per sample; the attacker maximises it.
        images: Clean, `(B, 3, H, W)` in [0, 1]; this process's share of the batch.
        streams: One per image, for the random start.
        epoch: The epoch that the batch belongs to.
    """

    loss: PerSample
    images: Tensor
    streams: Streams
    epoch: Epoch = field(default_factory=Epoch)


def attack(config: TrainingAttackConfig, batch: Batch) -> Tensor:
    """Attacks a batch.

    Returns:
        Images in [0, 1], `(B, 3, H, W)`, detached; the clean ones for kind `none`.
    """
    attacked: Tensor = in_training[config](config, batch)
    return attacked


@in_training(NoAttack)
def _none(_: NoAttack, batch: Batch) -> Tensor:
    return batch.images


@in_training(FgsmRs)
def _fgsm_rs(config: FgsmRs, batch: Batch) -> Tensor:
    start = _start(config, batch, config.epsilon)
    return fgsm_rs(batch.loss, batch.images, start, _threat(config), config.step_size_in_force)


@in_training(NFgsm)
def _n_fgsm(config: NFgsm, batch: Batch) -> Tensor:
    noise = _start(config, batch, config.NOISE * config.epsilon)
    return n_fgsm(batch.loss, batch.images, noise, _threat(config), config.step_size_in_force)


@in_training(TrainPgd)
def _pgd(config: TrainPgd, batch: Batch) -> Tensor:
    start = _start(config, batch, config.epsilon)
    return pgd(batch.loss, batch.images, start, _threat(config), config.steps, config.step_size_in_force)


def _threat(config: AdversarialConfig) -> Threat:
    return Threat(config.norm, config.epsilon)


def _start(config: AdversarialConfig, batch: Batch, radius: float) -> Tensor:
    """Returns the perturbation that the search starts from, `(B, 3, H, W)`."""
    if not config.random_start:
        return torch.zeros_like(batch.images)
    return Threat(config.norm, radius).draw(batch.images, batch.streams)
