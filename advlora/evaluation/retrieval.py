"""Image-text and video-text retrieval, clean and attacked; re-ranked by a matching head if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import torch
from torch import Tensor
from torch.nn.functional import normalize

from advlora.attacks import finite
from advlora.config import EvaluationAttackConfig, EvaluationProtocol
from advlora.config.caption_attacks import JointAttack
from advlora.config.evaluation_attacks import CAPTION_KINDS, RETRIEVAL_KINDS
from advlora.data import ImageTextSet
from advlora.distributed import SOLO, Group
from advlora.errors import ConfigError
from advlora.evaluation.attackers import Attacker, attackers, looks_for_images
from advlora.evaluation.gallery import Gallery, gallery
from advlora.evaluation.rankings import Rankings
from advlora.evaluation.recall import Ranks, ranks
from advlora.evaluation.reranking import candidates, first, matching
from advlora.metrics import RERANKED
from advlora.models import VisionLanguageModel
from advlora.models.masked_words import check_words

BY_SIMILARITY = ""
"""Before the name of a recall by similarity alone."""


@dataclass(frozen=True)
class Retrieval:
    """A model under a protocol. Attackers move images, and words of captions, away from what belongs to them.

    The attackers are those of `attackers`; a query counts as found only if it is found under every one of them. The
    model is put into eval mode.

    Attributes:
        model: On the device of the evaluation.
        data: The examples.
        protocol: Attacks, epsilons, and how many candidates a matching head reorders.
        group: The processes that share the work; every one gets all results.

    Raises:
        ConfigError: If the protocol has an attack that retrieval does not know.
        NotFinite: While it measures, if features, gradients or matching scores are not finite.
    """

    model: VisionLanguageModel
    data: ImageTextSet
    protocol: EvaluationProtocol
    group: Group = SOLO

    def __post_init__(self) -> None:
        video = self.data.images.dim() == 5
        if problems := check_protocol(self.protocol, matches=self.model.matches, video=video):
            raise ConfigError(problems)
        self.model.eval()

    @cached_property
    def gallery(self) -> Gallery:
        """All captions as they are."""
        return gallery(self.model, self.data)

    def metrics(self, split: str, curve: bool) -> dict[str, float]:
        """Measures recalls, and the success of the attackers.

        Args:
            split: Names the metrics.
            curve: Whether the further epsilons of the protocol are measured too.

        Returns:
            Numbers in [0, 1] by metric name; see `Rankings`.
        """
        return self.rankings(curve).metrics(split)

    def rankings(self, curve: bool) -> Rankings:
        """Ranks all queries, clean and at the protocol's epsilon; for a curve, at its further ones too."""
        epsilons = dict.fromkeys((self.protocol.epsilon, *(self.protocol.curve if curve else ())))
        return Rankings(self.ranks(None), {epsilon: self.ranks(epsilon) for epsilon in epsilons}, self.gallery.owner)

    def ranks(self, epsilon: float | None) -> dict[str, Ranks]:
        """Returns the outcomes at an epsilon, the worst of all attackers; for None, on clean images.

        They are by similarity and, if the protocol asks for it, re-ranked.
        """
        return self.under(self.attackers(self.protocol, epsilon))

    def attackers(self, protocol: EvaluationProtocol, epsilon: float | None) -> list[Attacker]:
        """Returns who attacks this set under the attacks of a protocol, which need not be its own."""
        clean = self.features if looks_for_images(protocol) else None
        return attackers(self.model, self.gallery, protocol, epsilon, clean)

    def under(self, all_attackers: Sequence[Attacker]) -> dict[str, Ranks]:
        """Returns the outcomes under attackers, the worst of all; as `ranks` does."""
        found = [self._outcomes(each) for each in all_attackers]
        return {order: reduce(Ranks.worst, (outcomes[order] for outcomes in found)) for order in found[0]}

    def _outcomes(self, attacker: Attacker) -> dict[str, Ranks]:
        features: list[Tensor] = []
        kept: dict[int, Tensor] = {}
        changed: dict[int, str] = {}
        for positions in self._batches():
            clean = self._images(positions)
            images, captions = attacker(clean, positions)
            features.append(self._embedded(images))
            changed |= captions
            if self.protocol.rerank:
                kept |= dict(zip(positions.tolist(), images.cpu(), strict=True))
        return self._ranked(features, kept, self._changed(changed) if attacker.joint else self.gallery)

    @cached_property
    def features(self) -> Tensor:
        """Unit features of all clean images, `(N, D)`."""
        found = torch.zeros(len(self.data), self.model.embed_dim, device=self._device)
        for positions in self._batches():
            found[positions] = self._embedded(self._images(positions))  # the rows of other processes stay 0
        return self.group.sum(found)

    @torch.no_grad()
    def _embedded(self, images: Tensor) -> Tensor:
        """Returns unit features, `(B, D)`."""
        return finite(normalize(self.model.embed(images).float(), dim=-1), "features of images")

    def _images(self, positions: Tensor) -> Tensor:
        """Returns the images at `positions` `(B,)` in [0, 1], `(B, 3, H, W)`, or videos."""
        return self.data.images[positions].to(self._device).float() / 255

    def _changed(self, captions: dict[int, str]) -> Gallery:
        """Returns the gallery after the attacks of all processes on captions."""
        attacked = dict(enumerate(self.gallery.captions))
        for part in self.group.gather(captions):
            attacked |= part
        return self.gallery.changed(self.model, list(attacked.values()))

    def _ranked(self, features: list[Tensor], images: dict[int, Tensor], texts: Gallery) -> dict[str, Ranks]:
        """Ranks, by the unit features of this process's batches, and again by matching its images if that is wanted."""
        similarity = torch.zeros(len(self.data), len(texts.captions), device=self._device)  # (N, T)
        for positions, batch in zip(self._batches(), features, strict=True):
            similarity[positions] = batch @ texts.features.T  # (B, D) @ (D, T); the rows of other processes stay 0
        similarity = self.group.sum(similarity)
        right = texts.right(torch.arange(len(self.data)))  # (N, T)
        found = {BY_SIMILARITY: ranks(similarity, similarity, right)}
        if not self.protocol.rerank:
            return found
        rows, columns = (candidates(similarity, self.protocol.rerank, dim) for dim in (1, 0))  # (N, T) each
        scores = similarity + self.group.sum(matching(self.model, images, texts.captions, rows | columns))
        again = ranks(first(similarity, scores, rows), first(similarity, scores, columns), right)
        return found | {RERANKED: again}

    def _batches(self) -> tuple[Tensor, ...]:
        return self.group.batches(len(self.data), self.protocol.batch_size)

    @property
    def _device(self) -> torch.device:
        return self.model.logit_scale.device


def check_protocol(protocol: EvaluationProtocol, *, matches: bool, video: bool) -> list[str]:
    """Returns one sentence per problem of a protocol on a set for retrieval.

    Args:
        protocol: The evaluation.
        matches: Whether the model has a matching head.
        video: Whether the set holds videos.
    """
    problems = [problem for attack in protocol.attacks for problem in _unknown(attack)]
    for words in dict.fromkeys(attack.words for attack in protocol.attacks if isinstance(attack, JointAttack)):
        problems += check_words(words)
    if protocol.rerank and (video or not matches):
        problems.append("protocol.rerank: needs images, and a model with a matching head, such as BLIP; set it to 0")
    return problems


def _unknown(attack: EvaluationAttackConfig) -> list[str]:
    if "captions" in attack.aims:
        return []
    known = ", ".join(f"'{kind}'" for kind in (*RETRIEVAL_KINDS, *CAPTION_KINDS))
    return [
        f"protocol.attacks: '{attack.label}' attacks a classifier; retrieval is attacked by {known}, "
        "with loss 'cross_entropy' or 'margin' where there is a choice"
    ]
