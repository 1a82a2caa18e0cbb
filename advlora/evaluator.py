"""Clean and robust accuracy under a protocol, in fp32, per example."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from advlora.attacks import withstands
from advlora.config import EvaluationProtocol, clean_metric, robust_metric
from advlora.data import ImageTextSet
from advlora.distributed import SOLO, Group
from advlora.models import VisionLanguageModel


@dataclass(frozen=True)
class Outcomes:
    """What became of every example, on the CPU.

    Attributes:
        clean: `(N,)`, true where the clean image is classified correctly.
        robust: Radius -> `(N,)`, true where it also withstands every attack of the protocol.
    """

    clean: Tensor
    robust: dict[float, Tensor]

    def metrics(self, split: str) -> dict[str, float]:
        """Reduces to accuracies under their metric names."""
        rows = {clean_metric(split): self.clean}
        rows |= {robust_metric(split, epsilon): right for epsilon, right in self.robust.items()}
        return {name: right.double().mean().item() for name, right in rows.items()}


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
) -> dict[str, float]:
    """Measures a model.

    Args:
        model: On `device`.
        class_features: `(C, D)`, unit length, on `device`.
        data: The examples.
        protocol: Attacks and strengths.
        split: Prefix of the metric names.
        curve: Whether the further strengths are measured too.
        device: Where to compute.
        group: The processes that share the work; every one gets all metrics.

    Returns:
        Accuracies in [0, 1] by metric name.
    """
    strengths = (protocol.epsilon, *(protocol.curve if curve else ()))
    results = outcomes(model, class_features, data, protocol, strengths, device=device, group=group)
    return results.metrics(split)


def outcomes(
    model: VisionLanguageModel,
    class_features: Tensor,
    data: ImageTextSet,
    protocol: EvaluationProtocol,
    strengths: Iterable[float],
    *,
    device: torch.device,
    group: Group = SOLO,
) -> Outcomes:
    """Examines every example; see `evaluate`.

    The examples are cut into batches by position and the batches are dealt to the processes, so that each batch is
    computed in the same way, and to the same bits, whatever the number of processes. The noise of an example belongs
    to its position and does not depend on the batch size either.
    """
    strengths = tuple(dict.fromkeys(strengths))
    examiner = _Examiner(model, class_features, protocol)
    table = torch.zeros(1 + len(strengths), len(data), device=device)
    for positions in torch.split(torch.arange(len(data)), protocol.batch_size)[group.rank :: group.world_size]:
        images = data.images[positions].to(device).float() / 255
        table[:, positions] = examiner.examine(images, data.labels[positions].to(device), positions, strengths).float()
    clean, *robust = group.sum(table).bool().cpu()
    return Outcomes(clean, dict(zip(strengths, robust, strict=True)))


class _Examiner:
    """A model under a protocol."""

    def __init__(self, model: VisionLanguageModel, class_features: Tensor, protocol: EvaluationProtocol) -> None:
        self.model, self.class_features, self.protocol = model.eval(), class_features, protocol

    def classify(self, images: Tensor) -> Tensor:
        features = normalize(self.model.encode_images(images), dim=-1)
        return self.model.logit_scale * features @ self.class_features.T

    def examine(self, images: Tensor, labels: Tensor, positions: Tensor, strengths: Iterable[float]) -> Tensor:
        """Returns `(1 + strengths, B)`: correct on the clean image, and under attack at each strength."""
        with torch.no_grad():
            clean = self.classify(images).argmax(1) == labels
        rows = [clean, *(self._robust(images, labels, positions, clean, epsilon) for epsilon in strengths)]
        return torch.stack(rows)

    def _robust(self, images: Tensor, labels: Tensor, positions: Tensor, clean: Tensor, epsilon: float) -> Tensor:
        standing = clean.nonzero()[:, 0]
        for number, attack in enumerate(self.protocol.attacks):
            names = [(self.protocol.seed, "examination", number, place) for place in positions[standing.cpu()].tolist()]
            kept = withstands(self.classify, images[standing], labels[standing], attack, epsilon, names)
            standing = standing[kept]
        return torch.zeros_like(clean).index_fill(0, standing, True)
