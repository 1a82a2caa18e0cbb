"""A perturbation that all images share (AdvCLIP-LoRA, Ghiasvand et al. 2025, algorithm 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from advlora.attacks.gradient import PerSample
from advlora.attacks.threat import TINY, Threat, check_range
from advlora.attacks.training import step_size
from advlora.config import TrainingAttackConfig
from advlora.distributed import Group
from advlora.randomness import generator


class UniversalPerturbation:
    """One perturbation of the shape of an image. Every batch continues its ascent; an epoch begins it anew.

    The published code steps along the raw gradient; here the step has a fixed length in the threat's norm, as in the
    universal adversarial training of Shafahi et al. (2020, algorithm 3).
    """

    def __init__(self, config: TrainingAttackConfig, seed: int, group: Group) -> None:
        """Takes the attack, the trial's seed and the processes, which share the perturbation."""
        self.config, self.seed, self.group = config, seed, group
        self.threat = Threat(config.norm, config.epsilon)
        self.epoch = 0
        self.delta: Tensor | None = None

    def start_epoch(self, epoch: int) -> None:
        """Forgets the perturbation."""
        self.epoch, self.delta = epoch, None

    def attack(self, loss: PerSample, images: Tensor) -> Tensor:
        """Improves the perturbation by some steps and applies it.

        Args:
            loss: To be maximised, summed over the whole batch.
            images: This process's share, `(b, 3, H, W)` in [0, 1].

        Returns:
            `(b, 3, H, W)` in [0, 1].
        """
        check_range(images)
        delta = self._start(images) if self.delta is None else self.delta
        for _ in range(self.config.steps):
            point = delta.detach().requires_grad_()
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(loss((images + point).clamp(0, 1)).sum(), point)
            step = step_size(self.config) * self.threat.direction(self.group.sum(gradient))
            delta = self._inside(delta + step)
        self.delta = delta
        return (images + delta).clamp(0, 1)

    def _start(self, images: Tensor) -> Tensor:
        blank = torch.zeros_like(images[:1]) if len(images) else images.new_zeros(1, *images.shape[1:])
        if not self.config.random_start:
            return blank
        return self.threat.draw(blank, [generator(self.seed, "universal", self.epoch)])

    def _inside(self, delta: Tensor) -> Tensor:
        if self.threat.norm == "linf":
            return delta.clamp(-self.threat.epsilon, self.threat.epsilon)
        length = torch.linalg.vector_norm(delta)
        shorter: Tensor = delta * (self.threat.epsilon / length.clamp_min(TINY)).clamp_max(1)
        return shorter
