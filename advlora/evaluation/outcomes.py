"""`Outcomes`: what became of every example, per attack and per epsilon."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from advlora.metrics import MEAN_PER_CLASS, Metric, epsilon_label

WITHSTOOD, BROKEN, SPARED = 1, 0, -1
"""What an attack did to an example. It spares those that count as broken before its turn."""


@dataclass(frozen=True)
class Outcomes:
    """What became of every example, on the CPU.

    Attributes:
        clean: `(N,)`, true where the clean image is classified correctly.
        robust: Epsilon -> `(N,)`, true where it also withstands every attack of the protocol.
        attacks: Epsilon -> label of the attack -> `(N,)`, int8: `WITHSTOOD`, `BROKEN` or `SPARED`.
    """

    clean: Tensor
    robust: dict[float, Tensor]
    attacks: dict[float, dict[str, Tensor]] = field(default_factory=dict)

    def metrics(self, split: str) -> dict[str, float]:
        """Reduces to accuracies under their metric names."""
        return {name: _share(right) for name, right in self.by_example(split).items()}

    def by_example(self, split: str) -> dict[str, Tensor]:
        """Returns what the accuracies of `metrics` are the means of, `(N,)` booleans, under their names."""
        rows = {str(Metric.clean(split)): self.clean}
        return rows | {str(Metric.robust(split, epsilon)): right for epsilon, right in self.robust.items()}

    def mean_per_class(self, split: str, labels: Tensor) -> dict[str, float]:
        """Returns the mean over the classes of the accuracies within each, under their metric names.

        Args:
            split: The split.
            labels: `(N,)`, the class of every example; classes without examples do not count.
        """
        found = {Metric.clean(split, MEAN_PER_CLASS): self.clean}
        found |= {Metric.robust(split, epsilon, MEAN_PER_CLASS): right for epsilon, right in self.robust.items()}
        return {str(metric): _by_class(right, labels) for metric, right in found.items()}

    def accuracies(self, epsilon: float) -> dict[str, float]:
        """Returns robust accuracy by attack, in order.

        An attack that was run on all examples stands for itself; one that was spared those already broken stands for
        itself and those before it, as AutoAttack reports it.
        """
        rows, standing = {}, self.clean
        for label, outcome in self.attacks[epsilon].items():
            alone = not bool((outcome[self.clean] == SPARED).any())
            own = self.clean & (outcome == WITHSTOOD)
            rows[label] = _share(own if alone else standing & own)
            standing = standing & (outcome != BROKEN)
        return rows

    def record(self) -> dict[str, Any]:
        """Returns everything as plain data.

        A row of outcomes is a string with one character per example: `1` right, `0` wrong, `-` not attacked.
        """
        return {
            "clean": _digits(self.clean),
            "robust": {epsilon_label(epsilon): _digits(right) for epsilon, right in self.robust.items()},
            "attacks": {
                epsilon_label(epsilon): {label: _digits(outcome) for label, outcome in rows.items()}
                for epsilon, rows in self.attacks.items()
            },
            "accuracies": {epsilon_label(epsilon): self.accuracies(epsilon) for epsilon in self.attacks},
        }


def _share(right: Tensor) -> float:
    return right.double().mean().item()


def _by_class(right: Tensor, labels: Tensor) -> float:
    counts = torch.bincount(labels)  # (N,) -> (C,)
    hits = torch.bincount(labels, weights=right.double())  # (N,) -> (C,)
    there = counts > 0
    return (hits[there] / counts[there]).mean().item()


def _digits(outcome: Tensor) -> str:
    return "".join({WITHSTOOD: "1", BROKEN: "0", SPARED: "-"}[value] for value in outcome.int().tolist())
