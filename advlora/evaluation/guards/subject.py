"""`Subject`: what the checks need to know of a model under a protocol, whatever its task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advlora.attacks import Classifier, withstands
from advlora.config import EvaluationAttackConfig, EvaluationProtocol, GuardConfig
from advlora.config.attack_base import RetrievalAttack
from advlora.config.perturbation import Norm
from advlora.evaluation.guards.answers import Answers
from advlora.randomness import Streams


@dataclass(frozen=True)
class Subject(ABC):
    """What is checked. A query is an image to be classified; in retrieval, an image or a caption that looks for one.

    Attributes:
        COUNTED: What the queries are called.
        MEASURED: What the share of right answers is called.
        classify: From images to logits.
        images: `(N, 3, H, W)` in [0, 1], or videos.
        labels: What is right about each image, as `advlora.attacks.objectives` takes it.
        sound: `(N,)`, which images are answered correctly.
        clean: `(K,)`, which queries are answered correctly without an attack.
        standing: `(K,)`, which withstand the protocol at its main epsilon.
        attacks: The protocol's, without ensembles.
        protocol: The evaluation whose numbers are judged.
    """

    COUNTED: ClassVar[str]
    MEASURED: ClassVar[str]

    classify: Classifier
    images: Tensor
    labels: Tensor
    sound: Tensor
    clean: Tensor
    standing: Tensor
    attacks: tuple[EvaluationAttackConfig, ...]
    protocol: EvaluationProtocol

    @property
    def guards(self) -> GuardConfig:
        """The settings of the checks."""
        return self.protocol.guards

    @property
    def norm(self) -> Norm:
        """The norm of the protocol's first attack."""
        return self.attacks[0].norm

    @abstractmethod
    def answers(self) -> tuple[Answers, ...]:
        """Returns the answers to the clean queries, by kind of query."""

    @abstractmethod
    def impossible(self) -> float:
        """Returns the share of queries that count as robust and cannot be."""

    @abstractmethod
    def left(self, facing: Tensor, attacks: Sequence[EvaluationAttackConfig], epsilon: float, purpose: str) -> Tensor:
        """Returns which of the queries `facing`, `(K,)`, withstand all attacks, `(K,)`."""

    @abstractmethod
    def ways(self, attack: RetrievalAttack) -> tuple[EvaluationAttackConfig, ...]:
        """Returns an attack, once for each kind of query that the protocol spoils."""

    def share(self, rows: Tensor) -> float:
        """Returns how large a part of rows, `(K,)`, is true."""
        return rows.double().mean().item()

    def broken(self, attacks: Sequence[EvaluationAttackConfig], purpose: str) -> float:
        """Returns the share of all queries that the protocol left standing and these attacks break."""
        kept = self.left(self.standing, attacks, self.protocol.epsilon, purpose)
        return self.share(self.standing & ~kept)


@dataclass(frozen=True)
class ClassifierSubject(Subject):
    """A zero-shot classifier; queries and images are the same.

    Attributes:
        surrogate: The pretrained model, for a transfer attack.
    """

    COUNTED: ClassVar[str] = "images"
    MEASURED: ClassVar[str] = "accuracy"

    surrogate: Classifier | None = None

    def answers(self) -> tuple[Answers, ...]:
        """Returns the classes that the images are taken for."""
        with torch.no_grad():
            given = self.classify(self.images).argmax(1)  # (N, C) -> (N,)
        return (Answers("class", given, self.clean, self.labels.bincount().max().item() / len(self.labels)),)

    def impossible(self) -> float:
        """Returns the share of images that are robust without being classified correctly."""
        return self.share(self.standing & ~self.clean)

    def left(self, facing: Tensor, attacks: Sequence[EvaluationAttackConfig], epsilon: float, purpose: str) -> Tensor:
        """Returns which of the images `facing`, `(N,)`, withstand all attacks, `(N,)`."""
        facing = facing.clone()
        for number, attack in enumerate(attacks):
            for places in torch.split(facing.nonzero()[:, 0], self.protocol.batch_size):
                streams = Streams.of(self.protocol.seed, "guard", purpose, number, samples=places)
                images, labels = self.images[places], self.labels[places]
                facing[places] = withstands(self.classify, images, labels, attack, epsilon, streams, self.surrogate)
        return facing

    def ways(self, attack: RetrievalAttack) -> tuple[EvaluationAttackConfig, ...]:
        """Returns the attack itself."""
        return (attack,)
