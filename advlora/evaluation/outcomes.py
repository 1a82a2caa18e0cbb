"""`Outcomes`: what became of every example, per attack and per epsilon."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from advlora.metrics import Metric, epsilon_label

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


def _digits(outcome: Tensor) -> str:
    return "".join({WITHSTOOD: "1", BROKEN: "0", SPARED: "-"}[value] for value in outcome.int().tolist())
