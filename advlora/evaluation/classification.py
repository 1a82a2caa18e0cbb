"""`Classification`: clean and robust accuracy of a zero-shot classifier under a protocol, in fp32, per example."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from advlora.attacks import finite, labels, needs_surrogate, runnable, withstands
from advlora.config import EvaluationAttackConfig, EvaluationProtocol
from advlora.data import ImageTextSet
from advlora.distributed import SOLO, Group
from advlora.evaluation.outcomes import BROKEN, SPARED, Outcomes
from advlora.evaluation.zero_shot import ZeroShotClassifier
from advlora.randomness import Streams

CLEAN, ROBUST = "clean", "robust"
Rows = dict[tuple[str, float], Tensor]
"""`CLEAN`, `ROBUST` or the label of an attack, and the epsilon -> one value per example."""


@dataclass(frozen=True)
class Classification:
    """A zero-shot classifier under a protocol.

    The examples are cut into batches by position and the batches are dealt to the processes, so that each batch is
    computed in the same way, and to the same bits, whatever the number of processes. The random numbers of an example
    belong to its position and do not depend on the batch size either.

    An attack spares what an earlier one broke. A larger ball holds every smaller one, so what is broken at a smaller
    epsilon counts as broken at a larger one without another attack, except at the protocol's main epsilon: its number
    must not depend on whether the curve is measured.

    Attributes:
        classifier: What is attacked.
        protocol: The attacks.
        surrogate: The pretrained model; needed where `advlora.attacks.needs_surrogate` says so.
        group: The processes that share the work; every one gets all outcomes.
        exhaustive: Whether every attack faces every example that is classified correctly.
    """

    classifier: ZeroShotClassifier
    protocol: EvaluationProtocol
    surrogate: ZeroShotClassifier | None = None
    group: Group = SOLO
    exhaustive: bool = False

    def __post_init__(self) -> None:
        if self.surrogate is None and needs_surrogate(self.protocol):
            raise ValueError("the protocol's transfer attacks need the pretrained model as surrogate")

    @cached_property
    def attacks(self) -> tuple[EvaluationAttackConfig, ...]:
        """The protocol's attacks without ensembles, and without those that so few classes do not allow.

        Raises:
            ConfigError: If none is left.
        """
        return runnable(self.protocol.attacks, len(self.classifier.class_features))

    def outcomes(self, data: ImageTextSet, epsilons: Iterable[float]) -> Outcomes:
        """Attacks every example at every epsilon.

        Raises:
            ConfigError: If no attack of the protocol is possible with so few classes.
            NotFinite: If logits or gradients are not finite.
        """
        epsilons = tuple(dict.fromkeys(epsilons))
        rows = self._blank(len(data), epsilons)
        for positions in self.group.batches(len(data), self.protocol.batch_size):
            for name, row in self._batch(data, positions, epsilons).items():
                rows[name][positions] = row
        rows = {name: row.cpu() for name, row in self.group.sum_named(rows).items()}
        return Outcomes(
            clean=rows[CLEAN, 0.0],
            robust={epsilon: rows[ROBUST, epsilon] for epsilon in epsilons},
            attacks={epsilon: {label: rows[label, epsilon] for label in self._labels} for epsilon in epsilons},
        )

    @cached_property
    def _labels(self) -> tuple[str, ...]:
        return labels(self.attacks)

    def _blank(self, count: int, epsilons: tuple[float, ...]) -> Rows:
        """Returns rows of zeros, `(N,)`: a process adds nothing to the batches of the others."""
        device = self.classifier.device
        truths = [(CLEAN, 0.0), *((ROBUST, epsilon) for epsilon in epsilons)]
        attacks = [(label, epsilon) for epsilon in epsilons for label in self._labels]
        rows = {name: torch.zeros(count, dtype=torch.bool, device=device) for name in truths}
        return rows | {name: torch.zeros(count, dtype=torch.int8, device=device) for name in attacks}

    def _batch(self, data: ImageTextSet, positions: Tensor, epsilons: tuple[float, ...]) -> Rows:
        """Returns what becomes of the examples at `positions` `(B,)`, every row `(B,)`."""
        device = self.classifier.device
        images, truth = data.images[positions].to(device).float() / 255, data.labels[positions].to(device)
        with torch.no_grad():
            clean = finite(self.classifier(images), "logits").argmax(1) == truth  # (B, C) -> (B,)
        rows, fallen = {(CLEAN, 0.0): clean}, torch.zeros_like(clean)
        for epsilon in sorted(epsilons):
            whole = self.exhaustive or epsilon == self.protocol.epsilon
            facing = clean if whole else clean & ~fallen
            found = self._attacked(images, truth, positions, facing, epsilon)
            robust = facing & torch.stack([outcome != BROKEN for outcome in found.values()]).all(0)  # (A, B) -> (B,)
            rows |= {(ROBUST, epsilon): robust} | {(label, epsilon): outcome for label, outcome in found.items()}
            fallen = fallen | (clean & ~robust)
        return rows

    def _attacked(
        self, images: Tensor, truth: Tensor, positions: Tensor, facing: Tensor, epsilon: float
    ) -> dict[str, Tensor]:
        """Returns the outcome of every attack on the examples `facing` `(B,)` it, `(B,)`."""
        standing, found = facing, {}
        places = positions.to(images.device)
        for number, (label, attack) in enumerate(zip(self._labels, self.attacks, strict=True)):
            tried = (facing if self.exhaustive else standing).nonzero()[:, 0]  # (b,), places in the batch
            streams = Streams.of(self.protocol.seed, "examination", number, samples=places[tried])
            kept = withstands(self.classifier, images[tried], truth[tried], attack, epsilon, streams, self.surrogate)
            spared = torch.full_like(facing, SPARED, dtype=torch.int8)
            found[label] = spared.index_copy(0, tried, kept.to(torch.int8))  # (b,) -> (B,)
            standing = standing & (found[label] != BROKEN)
        return found
