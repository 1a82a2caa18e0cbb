"""Clean and robust accuracy under a protocol, in fp32, per example and per attack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from advlora.attacks import Classifier, applicable, labels, needs_surrogate, withstands
from advlora.config import EvaluationAttackConfig, EvaluationProtocol
from advlora.data import ImageTextSet
from advlora.distributed import SOLO, Group
from advlora.metrics import Metric, epsilon_label
from advlora.models import VisionLanguageModel

WITHSTOOD, BROKEN, SPARED = 1, 0, -1
"""What an attack did to an example. It spares those that count as broken before it is their turn."""


@dataclass(frozen=True)
class Outcomes:
    """What became of every example, on the CPU.

    Attributes:
        clean: `(N,)`, true where the clean image is classified correctly.
        robust: Radius -> `(N,)`, true where it also withstands every attack of the protocol.
        attacks: Radius -> label of the attack -> `(N,)`, int8: `WITHSTOOD`, `BROKEN` or `SPARED`.
    """

    clean: Tensor
    robust: dict[float, Tensor]
    attacks: dict[float, dict[str, Tensor]] = field(default_factory=dict)

    def metrics(self, split: str) -> dict[str, float]:
        """Reduces to accuracies under their metric names."""
        rows = {str(Metric.clean(split)): self.clean}
        rows |= {str(Metric.robust(split, epsilon)): right for epsilon, right in self.robust.items()}
        return {name: _share(right) for name, right in rows.items()}

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


def read_digits(digits: str) -> Tensor:
    """Returns the `(N,)` int8 that a string of `Outcomes.record` was made of."""
    values = {"1": WITHSTOOD, "0": BROKEN, "-": SPARED}
    return torch.tensor([values[digit] for digit in digits], dtype=torch.int8)


def evaluate(
    model: VisionLanguageModel,
    class_features: Tensor,
    data: ImageTextSet,
    protocol: EvaluationProtocol,
    *,
    split: str,
    curve: bool,
    device: torch.device,
    group: Group = SOLO,
    surrogate: VisionLanguageModel | None = None,
) -> dict[str, float]:
    """Measures a model.

    Args:
        model: On `device`.
        class_features: `(C, D)`, unit length, on `device`.
        data: The examples.
        protocol: Attacks and epsilons.
        split: Prefix of the metric names.
        curve: Whether the further epsilons are measured too.
        device: Where to compute.
        group: The processes that share the work; every one gets all metrics.
        surrogate: The pretrained model, on `device`; needed where `advlora.attacks.needs_surrogate` says so.

    Returns:
        Accuracies in [0, 1] by metric name.

    Raises:
        ConfigError: If no attack of the protocol is possible with so few classes.
    """
    epsilons = (protocol.epsilon, *(protocol.curve if curve else ()))
    results = outcomes(model, class_features, data, protocol, epsilons, device=device, group=group, surrogate=surrogate)
    return results.metrics(split)


def outcomes(
    model: VisionLanguageModel,
    class_features: Tensor,
    data: ImageTextSet,
    protocol: EvaluationProtocol,
    epsilons: Iterable[float],
    *,
    device: torch.device,
    group: Group = SOLO,
    surrogate: VisionLanguageModel | None = None,
    exhaustive: bool = False,
) -> Outcomes:
    """Examines every example; see `evaluate`.

    The examples are cut into batches by position and the batches are dealt to the processes, so that each batch is
    computed in the same way, and to the same bits, whatever the number of processes. The random numbers of an example
    belong to its position and do not depend on the batch size either.

    An attack spares what an earlier one broke. A larger ball holds every smaller one, so what is broken at a smaller
    radius counts as broken at a larger one without another attack, except at the protocol's main radius: its number
    must not depend on whether the curve is measured. With `exhaustive` nothing is spared.
    """
    epsilons = tuple(dict.fromkeys(epsilons))
    attacks = applicable(protocol.attacks, len(class_features))
    if surrogate is None and needs_surrogate(protocol):
        raise ValueError("the protocol's transfer attacks need the pretrained model as surrogate")
    follow = None if surrogate is None else classifier(surrogate, class_features)
    evaluator = _Examiner(classifier(model, class_features), follow, attacks, protocol, exhaustive)
    table = torch.zeros(1 + len(epsilons) * (1 + len(attacks)), len(data), device=device)
    for positions in torch.split(torch.arange(len(data)), protocol.batch_size)[group.rank :: group.world_size]:
        images = data.images[positions].to(device).float() / 255
        table[:, positions] = evaluator.evaluate(images, data.labels[positions].to(device), positions, epsilons)
    clean, *rows = group.sum(table).to(torch.int8).cpu()
    return _named(clean, rows, epsilons, labels(attacks))


def _named(clean: Tensor, rows: list[Tensor], epsilons: tuple[float, ...], names: tuple[str, ...]) -> Outcomes:
    remaining: Iterator[Tensor] = iter(rows)
    robust, attacks = {}, {}
    for epsilon in epsilons:
        robust[epsilon] = next(remaining).bool()
        attacks[epsilon] = {name: next(remaining) for name in names}
    return Outcomes(clean.bool(), robust, attacks)


def classifier(model: VisionLanguageModel, class_features: Tensor) -> Classifier:
    """Returns the zero-shot classifier of a model: images `(B, 3, H, W)` in [0, 1] -> logits `(B, C)`."""
    model.eval()

    def classify(images: Tensor) -> Tensor:
        features = normalize(model.encode_images(images), dim=-1)
        return model.logit_scale * features @ class_features.T

    return classify


@dataclass(frozen=True)
class _Examiner:
    """A model under a protocol."""

    classify: Classifier
    surrogate: Classifier | None
    attacks: tuple[EvaluationAttackConfig, ...]
    protocol: EvaluationProtocol
    exhaustive: bool

    def evaluate(self, images: Tensor, truth: Tensor, positions: Tensor, epsilons: tuple[float, ...]) -> Tensor:
        """Returns the rows of a batch, `(1 + epsilons * (1 + attacks), B)`.

        The first row tells what is correct on the clean image; per epsilon follow what withstands everything and the
        outcome of every attack.
        """
        with torch.no_grad():
            clean = self.classify(images).argmax(1) == truth
        found, fallen = {}, torch.zeros_like(clean)
        for epsilon in sorted(epsilons):
            whole = self.exhaustive or epsilon == self.protocol.epsilon
            found[epsilon] = self._attacked(images, truth, positions, clean if whole else clean & ~fallen, epsilon)
            fallen = fallen | (clean & ~found[epsilon][0].bool())
        return torch.cat([clean[None].float(), *(found[epsilon] for epsilon in epsilons)])

    def _attacked(self, images: Tensor, truth: Tensor, positions: Tensor, facing: Tensor, epsilon: float) -> Tensor:
        """Returns what withstands everything and the outcome of every attack, `(1 + attacks, B)`."""
        standing, rows = facing, []
        for number, attack in enumerate(self.attacks):
            tried = (facing if self.exhaustive else standing).nonzero()[:, 0]
            names = [(self.protocol.seed, "examination", number, place) for place in positions[tried.cpu()].tolist()]
            kept = withstands(self.classify, images[tried], truth[tried], attack, epsilon, names, self.surrogate)
            outcome = torch.full_like(facing, SPARED, dtype=torch.float).index_copy(0, tried, kept.float())
            rows.append(outcome)
            standing = standing & (outcome != BROKEN)
        return torch.stack([standing.float(), *rows])
