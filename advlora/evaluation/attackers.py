"""`Attacker`: what becomes of the images, and of the captions, of retrieval under the attacks of a protocol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from advlora.attacks import Case, Threat, Watched, expanded
from advlora.attacks.registry import on_captions, on_classes
from advlora.attacks.retrieval import RetrievalCase, attack_images, attack_jointly
from advlora.config import EvaluationAttackConfig, EvaluationProtocol
from advlora.config.attack_base import STANDARD
from advlora.config.caption_attacks import CaptionAttack, CoAttack, JointAttack, SetLevel, Sga
from advlora.config.evaluation_attacks import Apgd, ApgdCe, Noise, Pgd, Square
from advlora.evaluation.gallery import Gallery
from advlora.evaluation.queries import Queries, Visited, queries
from advlora.models import VisionLanguageModel
from advlora.models.masked_words import load_words
from advlora.randomness import Streams


@dataclass(frozen=True)
class Attacker:
    """Attacks that act as one, at one epsilon.

    Attributes:
        model: The evaluated model.
        gallery: The captions as they are.
        attacks: Attacks that spoil the same queries, each with its number in the protocol; a single one if it is joint.
            With no attack everything stays as it is.
        epsilon: Radius of the ball.
        seed: The protocol's seed.
        clean: Unit features of all clean images, `(N, D)`; needed where captions are to miss their images.
    """

    model: VisionLanguageModel
    gallery: Gallery
    attacks: tuple[tuple[int, EvaluationAttackConfig], ...] = ()
    epsilon: float = 0.0
    seed: int = 0
    clean: Tensor | None = None

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
        """Returns for each image the point of largest margin among the clean image and what all runs have found."""
        asked = self.asked(images, positions)
        found = Visited(asked, images)
        for points in (images, *self._runs(images, positions)):
            found.keep(points, asked.margin(points))
        return found.worst

    def asked(self, images: Tensor, positions: Tensor) -> Queries:
        """Returns the queries that the attacks spoil."""
        way = self.attacks[0][1].heading or STANDARD
        return queries(way, self.model, self.gallery, images, positions, self.clean)

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


@on_captions(Pgd, Apgd, ApgdCe, Square, Noise)
def _as_on_classes(
    attacker: Attacker, attack: EvaluationAttackConfig, images: Tensor, positions: Tensor, streams: Streams
) -> tuple[Tensor, dict[int, str]]:
    """Runs an attack on classes: captions, or images, are the classes, and every visited point counts."""
    flat = images.flatten(1, -3)  # of videos (B, F, 3, H, W) -> (B, 3F, H, W), as frames are attacked together
    asked = attacker.asked(images, positions)
    visited = Visited(asked, flat)
    watched = Watched(visited, "similarities of images and captions")
    threat = Threat(attack.norm, attacker.epsilon)
    on_classes[attack](Case(watched, flat, asked.labels, threat, streams, relentless=True), attack, 0)
    watched.check()
    return visited.worst.view_as(images), {}


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
    model: VisionLanguageModel,
    gallery: Gallery,
    protocol: EvaluationProtocol,
    epsilon: float | None,
    clean: Tensor | None = None,
) -> list[Attacker]:
    """Returns who attacks at an epsilon; for None a single one that leaves everything as it is.

    All attacks of one direction act as one attacker, who keeps the worst point of each image; every attack without a
    direction is an attacker of its own.

    Args:
        model: The evaluated model.
        gallery: All captions.
        protocol: The attacks.
        epsilon: Radius of the ball.
        clean: Unit features of all clean images, `(N, D)`; needed where `looks_for_images`.
    """
    if epsilon is None:
        return [Attacker(model, gallery)]
    parties: dict[str | int, list[tuple[int, EvaluationAttackConfig]]] = {}
    for number, attack in enumerate(expanded(protocol.attacks)):
        parties.setdefault(attack.heading or number, []).append((number, attack))
    return [Attacker(model, gallery, tuple(party), epsilon, protocol.seed, clean) for party in parties.values()]


def looks_for_images(protocol: EvaluationProtocol) -> bool:
    """Returns whether an attack makes captions miss their images."""
    return any(attack.heading == "text_to_image" for attack in expanded(protocol.attacks))
