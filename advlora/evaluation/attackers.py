"""`Attacker`: what becomes of the images, and of the captions, of retrieval under the attacks of a protocol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from advlora.attacks import Threat, pgd
from advlora.attacks.registry import on_captions
from advlora.attacks.retrieval import RetrievalCase, attack_images, attack_jointly
from advlora.config import EvaluationAttackConfig, EvaluationProtocol
from advlora.config.caption_attacks import CaptionAttack, CoAttack, JointAttack, SetLevel, Sga
from advlora.config.evaluation_attacks import Pgd
from advlora.evaluation.gallery import Gallery
from advlora.models import VisionLanguageModel
from advlora.models.masked_words import load_words
from advlora.randomness import Streams


@dataclass(frozen=True)
class Attacker:
    """Attacks that act as one, at one epsilon.

    Attributes:
        model: The evaluated model.
        gallery: The captions as they are.
        attacks: Attacks of one kind, each with its number in the protocol; a single one if it is joint. With no attack
            everything stays as it is.
        epsilon: Radius of the ball.
        seed: The protocol's seed.
    """

    model: VisionLanguageModel
    gallery: Gallery
    attacks: tuple[tuple[int, EvaluationAttackConfig], ...] = ()
    epsilon: float = 0.0
    seed: int = 0

    @property
    def joint(self) -> bool:
        """Whether captions are attacked too."""
        return any(isinstance(attack, JointAttack) for _, attack in self.attacks)

    def __call__(self, images: Tensor, positions: Tensor) -> tuple[Tensor, dict[int, str]]:
        """Attacks a batch.

        Args:
            images: `(B, 3, H, W)` in [0, 1], or videos.
            positions: `(B,)`, of the images in the set.

        Returns:
            The images, and, if captions are attacked, number -> caption of those that belong to them.
        """
        if self.joint:
            ((number, attack),) = self.attacks
            return self._run(attack, images, positions, self._streams(positions, number, 0))
        return (self._worst(images, positions) if self.attacks else images), {}

    def _worst(self, images: Tensor, positions: Tensor) -> Tensor:
        """Returns for each image the point of largest margin among the clean image and the last points of all runs."""
        worst, hardest = images, self._margin(images, positions)
        for points in self._runs(images, positions):
            loss = self._margin(points, positions)
            better = loss > hardest  # (B,)
            as_images = better.view(-1, *(1,) * (images.dim() - 1))  # (B, 1, 1, 1), of videos (B, 1, 1, 1, 1)
            worst = torch.where(as_images, points, worst)
            hardest = torch.where(better, loss, hardest)
        return worst

    def _runs(self, images: Tensor, positions: Tensor) -> Iterator[Tensor]:
        for number, attack in self.attacks:
            for restart in range(attack.repeats):
                yield self._run(attack, images, positions, self._streams(positions, number, restart))[0]

    def _run(
        self, attack: EvaluationAttackConfig, images: Tensor, positions: Tensor, streams: Streams
    ) -> tuple[Tensor, dict[int, str]]:
        found: tuple[Tensor, dict[int, str]] = on_captions[attack](self, attack, images, positions, streams)
        return found

    def case(self, attack: CaptionAttack, images: Tensor, own: Tensor, streams: Streams) -> RetrievalCase:
        """Returns what an attack on captions works on; `own` is `(B, T)`."""
        return RetrievalCase(
            model=self.model,
            images=images,
            own=own,
            threat=Threat(attack.norm, self.epsilon),
            streams=streams,
            steps=attack.steps,
            step_size=attack.step(self.epsilon),
            scales=attack.sizes,
        )

    def _streams(self, positions: Tensor, number: int, restart: int) -> Streams:
        samples = positions.to(self.gallery.features.device)
        return Streams.of(self.seed, "retrieval", number, restart, samples=samples)

    @torch.no_grad()
    def _margin(self, images: Tensor, positions: Tensor) -> Tensor:
        return self.loss(images, positions, "margin")

    def loss(self, images: Tensor, positions: Tensor, kind: str) -> Tensor:
        """Returns what the attacker maximises, `(B,)`: right captions against wrong ones."""
        features = normalize(self.model.embed(images).float(), dim=-1)  # (B, D)
        logits = self.model.logit_scale * (features @ self.gallery.features.T)  # (B, T)
        answers = self.gallery.right(positions)  # (B, T)
        right, wrong = logits.masked_fill(~answers, -torch.inf), logits.masked_fill(answers, -torch.inf)
        if kind == "margin":
            return wrong.amax(1) - right.amax(1)  # (B,)
        return logits.logsumexp(1) - right.logsumexp(1)  # (B,)


@on_captions(Pgd)
def _pgd(
    attacker: Attacker, attack: Pgd, images: Tensor, positions: Tensor, streams: Streams
) -> tuple[Tensor, dict[int, str]]:
    threat = Threat(attack.norm, attacker.epsilon)

    def loss(points: Tensor) -> Tensor:
        return attacker.loss(points, positions, attack.loss)

    start = threat.draw(images, streams)
    return pgd(loss, images, start, threat, attack.steps, attack.step(attacker.epsilon)), {}


@on_captions(SetLevel)
def _set_level(
    attacker: Attacker, attack: SetLevel, images: Tensor, positions: Tensor, streams: Streams
) -> tuple[Tensor, dict[int, str]]:
    case = attacker.case(attack, images, attacker.gallery.own(positions), streams)
    return attack_images(case, attacker.gallery.features), {}


@on_captions(CoAttack, Sga)
def _jointly(
    attacker: Attacker, attack: JointAttack, images: Tensor, positions: Tensor, streams: Streams
) -> tuple[Tensor, dict[int, str]]:
    own = attacker.gallery.own(positions)  # (B, T)
    numbers = own.any(0).nonzero()[:, 0]  # (t,), the captions of this batch
    captions = [attacker.gallery.captions[place] for place in numbers.tolist()]
    case = attacker.case(attack, images, own[:, numbers], streams)
    words = load_words(attack.words, images.device)
    attacked, changed = attack_jointly(case, captions, words, single=attack.PAIRWISE)
    return attacked, dict(zip(numbers.tolist(), changed, strict=True))


def attackers(
    model: VisionLanguageModel, gallery: Gallery, protocol: EvaluationProtocol, epsilon: float | None
) -> list[Attacker]:
    """Returns who attacks at an epsilon; for None a single one that leaves everything as it is.

    All attacks of kind `pgd` act as one attacker, who keeps the worst point of each image; every other attack is an
    attacker of its own.
    """
    if epsilon is None:
        return [Attacker(model, gallery)]
    numbered = list(enumerate(protocol.attacks))
    together = tuple(entry for entry in numbered if isinstance(entry[1], Pgd))
    parties = [*([together] if together else []), *((entry,) for entry in numbered if entry not in together)]
    return [Attacker(model, gallery, party, epsilon, protocol.seed) for party in parties]
