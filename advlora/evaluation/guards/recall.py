"""`RetrievalSubject`: recall at 1 on a few images, for the checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advlora.attacks import Classifier, expanded
from advlora.config import EvaluationAttackConfig, EvaluationProtocol
from advlora.config.attack_base import STANDARD, Direction, RetrievalAttack
from advlora.config.caption_attacks import JointAttack
from advlora.data import ImageTextSet
from advlora.evaluation.guards.answers import Answers
from advlora.evaluation.guards.subject import Subject
from advlora.evaluation.queries import ImageToText
from advlora.evaluation.recall import Ranks
from advlora.evaluation.retrieval import BY_SIMILARITY, Retrieval
from advlora.models import VisionLanguageModel
from advlora.randomness import seed_of


@dataclass(frozen=True)
class RetrievalSubject(Subject):
    """A model that finds captions for images and images for captions, by similarity.

    Queries are those that the protocol attacks: images that look for captions, captions that look for images, or both
    one after the other.

    Attributes:
        retrieval: The images and captions.
        directions: Which queries are attacked.
        gained: Share of the images that find a caption under attack only. It counts as 0 where captions change too, or
            where captions alone are to miss their images.
    """

    COUNTED: ClassVar[str] = "queries"
    MEASURED: ClassVar[str] = "recall at 1"

    retrieval: Retrieval
    directions: tuple[Direction, ...]
    gained: float

    @classmethod
    def of(cls, model: VisionLanguageModel, data: ImageTextSet, protocol: EvaluationProtocol) -> RetrievalSubject:
        """Measures clean and robust recall on a set that is small."""
        protocol = protocol.model_copy(update={"rerank": 0})
        retrieval, attacks = Retrieval(model, data, protocol), expanded(protocol.attacks)
        directions = tuple(dict.fromkeys(attack.heading or STANDARD for attack in attacks))
        clean, robust = (retrieval.ranks(epsilon)[BY_SIMILARITY] for epsilon in (None, protocol.epsilon))
        gained = (robust.texts == 0) & (clean.texts > 0)  # (N,)
        images = data.images.to(clean.texts.device).float() / 255
        asked = ImageToText(model, retrieval.gallery, images, torch.arange(len(data)))
        return cls(
            classify=asked,
            images=images,
            labels=asked.labels,
            sound=clean.texts == 0,
            clean=_found(clean, directions),
            standing=_found(clean.worst(robust), directions),
            attacks=attacks,
            protocol=protocol,
            retrieval=retrieval,
            directions=directions,
            gained=gained.double().mean().item() if any(_bounds(attack) for attack in attacks) else 0.0,
        )

    def answers(self) -> tuple[Answers, ...]:
        """Returns the captions that the images find first, and the images that the captions find first."""
        with torch.no_grad():
            similarity = self.classify(self.images)  # (N, T)
        clean, own = self.retrieval.ranks(None)[BY_SIMILARITY], self.labels.double()  # (N, T)
        return (
            Answers("caption", similarity.argmax(1), clean.texts == 0, own.mean(0).max().item()),
            Answers("image", similarity.argmax(0), clean.images == 0, own.mean(1).max().item()),
        )

    def impossible(self) -> float:
        """Returns the share of images that find a caption under attack only, though an attacker may leave an image."""
        return self.gained

    def left(self, facing: Tensor, attacks: Sequence[EvaluationAttackConfig], epsilon: float, purpose: str) -> Tensor:
        """Returns which of the queries `facing`, `(K,)`, withstand all attacks, `(K,)`."""
        if not attacks:
            return facing
        named = {"attacks": tuple(attacks), "seed": seed_of(self.protocol.seed, "guard", purpose)}
        parties = self.retrieval.attackers(self.protocol.model_copy(update=named), epsilon)
        return facing & _found(self.retrieval.under(parties)[BY_SIMILARITY], self.directions)

    def ways(self, attack: RetrievalAttack) -> tuple[EvaluationAttackConfig, ...]:
        """Returns the attack in every direction that the protocol attacks."""
        return tuple(attack.model_copy(update={"direction": way}) for way in self.directions)


def similarity(model: VisionLanguageModel, data: ImageTextSet, protocol: EvaluationProtocol) -> Classifier:
    """Returns what maps the images of a set to their scaled similarity with all captions, `(N, T)`."""
    retrieval = Retrieval(model, data, protocol.model_copy(update={"rerank": 0}))
    return ImageToText(model, retrieval.gallery, data.images, torch.arange(len(data)))


def _bounds(attack: EvaluationAttackConfig) -> bool:
    """Whether an attack keeps an image as it is if nothing worse is found for its own query."""
    return attack.heading != "text_to_image" and not isinstance(attack, JointAttack)


def _found(ranks: Ranks, directions: Sequence[Direction]) -> Tensor:
    """Returns which queries find a right answer first, `(K,)`."""
    by_direction = {"image_to_text": ranks.texts == 0, "text_to_image": ranks.images == 0}
    return torch.cat([by_direction[direction] for direction in directions])
