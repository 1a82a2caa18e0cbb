"""Image-text and video-text retrieval, clean and with attacked images; re-ranked by a matching head if wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import normalize

from advlora.attacks import Threat, pgd
from advlora.attacks.examination import step_size
from advlora.config import EvaluationProtocol, clean_metric, robust_metric, strength
from advlora.data import ImageTextSet
from advlora.distributed import SOLO, Group
from advlora.errors import ConfigError
from advlora.models import VisionLanguageModel
from advlora.randomness import generator
from advlora.tasks.recall import recalls

TEXTS = 128
"""Captions that a matching head scores at once."""


@dataclass(frozen=True)
class Gallery:
    """All captions of a set.

    Attributes:
        captions: Of all images, one image after the other.
        owner: `(T,)`, image of each caption.
        features: `(T, D)`, unit length.
    """

    captions: tuple[str, ...]
    owner: Tensor
    features: Tensor = field(repr=False)


def evaluate_retrieval(
    model: VisionLanguageModel,
    data: ImageTextSet,
    protocol: EvaluationProtocol,
    *,
    split: str,
    curve: bool,
    device: torch.device,
    group: Group = SOLO,
) -> dict[str, float]:
    """Measures a model. The attacker moves every image away from its own captions among all captions of the set.

    Of the clean image and all runs' last points, the one of the largest margin counts.

    Args:
        model: On `device`.
        data: The examples.
        protocol: PGD attacks, strengths, and how many candidates a matching head orders anew.
        split: Prefix of the metric names.
        curve: Whether the further strengths are measured too.
        device: Where to compute.
        group: The processes that share the work; every one gets all metrics.

    Returns:
        `clean_r1` and `robust_r1` are text retrieval at 1, by which trials are selected; beside them the metrics of
        `recalls`, those after re-ranking with `itm_` in front.

    Raises:
        ConfigError: If the protocol has an attack that retrieval does not know.
    """
    check_protocol(protocol, model, data)
    examiner = _Examiner(model.eval(), data, protocol, device, group)
    metrics = {f"{split}/clean_{name}": value for name, value in examiner.measure(None).items()}
    metrics[clean_metric(split)] = metrics[f"{split}/clean_tr_r1"]
    for epsilon in dict.fromkeys((protocol.epsilon, *(protocol.curve if curve else ()))):
        found = examiner.measure(epsilon)
        metrics |= {f"{split}/robust_{name}:{strength(epsilon)}": value for name, value in found.items()}
        metrics[robust_metric(split, epsilon)] = found["tr_r1"]
    return metrics


def check_protocol(protocol: EvaluationProtocol, model: VisionLanguageModel, data: ImageTextSet) -> None:
    """Refuses attacks that retrieval does not know, and re-ranking without a matching head.

    Raises:
        ConfigError: With one sentence per problem.
    """
    problems = [
        f"protocol.attacks: '{attack.kind}' with loss '{attack.loss}' classifies; retrieval is attacked by 'pgd' with "
        f"loss 'cross_entropy' or 'margin'"
        for attack in protocol.attacks
        if attack.kind != "pgd" or attack.loss not in ("cross_entropy", "margin")
    ]
    if data.images.dim() == 5 and any(attack.norm == "l2" for attack in protocol.attacks):
        problems.append("protocol.attacks: norm 'l2' is not defined for videos; use 'linf'")
    if protocol.rerank and not (model.matches and data.images.dim() == 4):
        problems.append("protocol.rerank: needs images, and a model with a matching head, such as BLIP; set it to 0")
    if problems:
        raise ConfigError(problems)


@torch.no_grad()
def gallery(model: VisionLanguageModel, data: ImageTextSet) -> Gallery:
    """Embeds all captions of a set by the model's text tower as it is."""
    captions = tuple(caption for own in data.references for caption in own)
    counts = torch.tensor([len(own) for own in data.references])
    device = model.logit_scale.device
    owner = torch.arange(len(data)).repeat_interleave(counts).to(device)
    return Gallery(captions, owner, normalize(model.encode_texts(captions).float(), dim=-1))


class _Examiner:
    """A model under a protocol."""

    def __init__(
        self,
        model: VisionLanguageModel,
        data: ImageTextSet,
        protocol: EvaluationProtocol,
        device: torch.device,
        group: Group,
    ) -> None:
        self.model, self.data, self.protocol, self.device, self.group = model, data, protocol, device, group
        self.gallery, self.candidates = gallery(model, data), protocol.rerank

    def measure(self, epsilon: float | None) -> dict[str, float]:
        """Returns recalls, clean for None, over the worst of the protocol's attacks per image."""
        similarity = torch.zeros(len(self.data), len(self.gallery.captions), device=self.device)
        kept: dict[int, Tensor] = {}
        for positions in self._batches():
            images = self._attacked(positions, epsilon)
            with torch.no_grad():
                similarity[positions] = self._cosine(images)
            if self.candidates:
                kept |= dict(zip(positions.tolist(), images.cpu(), strict=True))
        similarity = self.group.sum(similarity)
        found = recalls(similarity, similarity, self.gallery.owner)
        if not self.candidates:
            return found
        rows, columns = (candidates(similarity, self.candidates, dim) for dim in (1, 0))
        scores = similarity + self.group.sum(self._matching(kept, rows | columns))
        again = recalls(first(similarity, scores, rows), first(similarity, scores, columns), self.gallery.owner)
        return found | {f"itm_{name}": value for name, value in again.items()}

    def _batches(self) -> Sequence[Tensor]:
        batches = torch.split(torch.arange(len(self.data)), self.protocol.batch_size)
        return batches[self.group.rank :: self.group.world_size]

    def _attacked(self, positions: Tensor, epsilon: float | None) -> Tensor:
        images = self.data.images[positions].to(self.device).float() / 255
        if epsilon is None:
            return images
        worst, hardest = images, self._margin(images, positions)
        for points in self._runs(images, positions, epsilon):
            loss = self._margin(points, positions)
            better = loss > hardest
            worst = torch.where(better.view(-1, *(1,) * (images.dim() - 1)), points, worst)
            hardest = torch.where(better, loss, hardest)
        return worst

    @torch.no_grad()
    def _margin(self, images: Tensor, positions: Tensor) -> Tensor:
        return self._loss(images, positions, "margin")

    def _runs(self, images: Tensor, positions: Tensor, epsilon: float) -> Iterator[Tensor]:
        for number, attack in enumerate(self.protocol.attacks):
            threat = Threat(attack.norm, epsilon)
            for restart in range(attack.restarts):
                names = [(self.protocol.seed, "retrieval", number, place, restart) for place in positions.tolist()]
                start = threat.draw(images, [generator(*name) for name in names])

                def loss(points: Tensor, kind: str = attack.loss) -> Tensor:
                    return self._loss(points, positions, kind)

                yield pgd(loss, images, start, threat, attack.steps, step_size(attack, epsilon))

    def _loss(self, images: Tensor, positions: Tensor, kind: str) -> Tensor:
        """Returns what the attacker maximises, `(B,)`: own captions against all others, by probability or by margin."""
        logits = self.model.logit_scale * self._cosine(images)
        own = self.gallery.owner[None] == positions.to(self.device)[:, None]
        right, wrong = logits.masked_fill(~own, -torch.inf), logits.masked_fill(own, -torch.inf)
        if kind == "margin":
            return wrong.amax(1) - right.amax(1)
        return logits.logsumexp(1) - right.logsumexp(1)

    def _cosine(self, images: Tensor) -> Tensor:
        return normalize(self.model.embed(images).float(), dim=-1) @ self.gallery.features.T

    @torch.no_grad()
    def _matching(self, images: dict[int, Tensor], wanted: Tensor) -> Tensor:
        """Returns matching scores `(N, T)` of the wanted pairs of this process's images; zero elsewhere."""
        scores = torch.zeros(wanted.shape, device=self.device)
        for place, image in images.items():
            token = self.model.image_tokens(image[None].to(self.device))
            for part in torch.split(wanted[place].nonzero()[:, 0], TEXTS):
                captions = [self.gallery.captions[number] for number in part.tolist()]
                scores[place, part] = self.model.match(token.expand(len(captions), -1, -1), captions).float()
        return scores


def candidates(similarity: Tensor, count: int, dim: int) -> Tensor:
    """Returns which pairs of `(N, T)` are among the best of their image (`dim` 1) or caption (`dim` 0)."""
    best = similarity.topk(min(count, similarity.shape[dim]), dim).indices
    return torch.zeros_like(similarity, dtype=torch.bool).scatter_(dim, best, True)


def first(similarity: Tensor, scores: Tensor, chosen: Tensor) -> Tensor:
    """Orders the chosen pairs by `scores`, above all others (re-ranking, Li et al. 2022, section 5.1).

    Args:
        similarity: `(N, T)`; orders the pairs that are not chosen.
        scores: `(N, T)`: similarity plus matching score.
        chosen: `(N, T)`, bool.
    """
    lift = similarity.max() - scores.min() + 1
    return torch.where(chosen, scores + lift, similarity)
