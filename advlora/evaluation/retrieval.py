"""Image-text and video-text retrieval, clean and attacked; re-ranked by a matching head if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.nn.functional import normalize

from advlora.config import EvaluationAttackConfig, EvaluationProtocol
from advlora.config.evaluation_attacks import CAPTION_KINDS, JointAttack
from advlora.data import ImageTextSet
from advlora.distributed import SOLO, Group
from advlora.errors import ConfigError
from advlora.evaluation.attackers import Attacker, attackers
from advlora.evaluation.gallery import Gallery, embedded, gallery
from advlora.evaluation.recall import Ranks, ranks
from advlora.evaluation.reranking import candidates, first, matching
from advlora.metrics import Metric, epsilon_label
from advlora.models import VisionLanguageModel
from advlora.models.masked_words import check_words


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
    """Measures a model. Attackers move images, and words of captions, away from what belongs to them.

    The attackers are those of `attackers`; a query counts as found only if it is found under every one of them.

    Args:
        model: On `device`.
        data: The examples.
        protocol: Attacks, epsilons, and how many candidates a matching head orders anew.
        split: Prefix of the metric names.
        curve: Whether the further epsilons are measured too.
        device: Where to compute.
        group: The processes that share the work; every one gets all metrics.

    Returns:
        `clean_r1` and `robust_r1` are text retrieval at 1, by which trials are selected; beside them the metrics of
        `Ranks.recalls` and, as `success_...`, of `Ranks.success_rates`; those after re-ranking with `itm_` in front.

    Raises:
        ConfigError: If the protocol has an attack that retrieval does not know.
    """
    if problems := check_protocol(protocol, matches=model.matches, video=data.images.dim() == 5):
        raise ConfigError(problems)
    evaluator = _Examiner(model.eval(), data, protocol, device, group)
    clean = evaluator.measure(None)
    metrics = {f"{split}/clean_{name}": value for name, value in _recalls(clean).items()}
    metrics[str(Metric.clean(split))] = metrics[f"{split}/clean_tr_r1"]
    for epsilon in dict.fromkeys((protocol.epsilon, *(protocol.curve if curve else ()))):
        attacked, place = evaluator.measure(epsilon), epsilon_label(epsilon)
        metrics |= {f"{split}/robust_{name}:{place}": value for name, value in _recalls(attacked).items()}
        metrics |= {f"{split}/success_{name}:{place}": value for name, value in _successes(clean, attacked).items()}
        metrics[str(Metric.robust(split, epsilon))] = metrics[f"{split}/robust_tr_r1:{place}"]
    return metrics


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
    if video and any(attack.norm == "l2" for attack in protocol.attacks):
        problems.append("protocol.attacks: norm 'l2' is not defined for videos; use 'linf'")
    if protocol.rerank and (video or not matches):
        problems.append("protocol.rerank: needs images, and a model with a matching head, such as BLIP; set it to 0")
    return problems


def _unknown(attack: EvaluationAttackConfig) -> list[str]:
    if "captions" in attack.aims:
        return []
    known = ", ".join(f"'{kind}'" for kind in CAPTION_KINDS)
    return [
        f"protocol.attacks: '{attack.label}' attacks a classifier; retrieval is attacked by {known}, "
        f"and 'pgd' with loss 'cross_entropy' or 'margin'"
    ]


def _recalls(found: dict[str, Ranks]) -> dict[str, float]:
    return {f"{way}{name}": value for way, outcome in found.items() for name, value in outcome.recalls().items()}


def _successes(clean: dict[str, Ranks], attacked: dict[str, Ranks]) -> dict[str, float]:
    rates = {way: before.success_rates(attacked[way]) for way, before in clean.items()}
    return {f"{way}{name}": value for way, found in rates.items() for name, value in found.items()}


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
        self.gallery = gallery(model, data)

    def measure(self, epsilon: float | None) -> dict[str, Ranks]:
        """Returns the outcomes at an epsilon, clean for None, the worst of all attackers; re-ranked under `itm_`."""
        found = [self._outcomes(each) for each in attackers(self.model, self.gallery, self.protocol, epsilon)]
        return {way: reduce(Ranks.worst, (outcomes[way] for outcomes in found)) for way in found[0]}

    def _outcomes(self, attacker: Attacker) -> dict[str, Ranks]:
        features: list[Tensor] = []
        kept: dict[int, Tensor] = {}
        changed: dict[int, str] = {}
        for positions in self._batches():
            images, captions = attacker(self.data.images[positions].to(self.device).float() / 255, positions)
            with torch.no_grad():
                features.append(normalize(self.model.embed(images).float(), dim=-1))
            changed |= captions
            if self.protocol.rerank:
                kept |= dict(zip(positions.tolist(), images.cpu(), strict=True))
        return self._ranked(features, kept, self._changed(changed) if attacker.joint else self.gallery)

    def _changed(self, captions: dict[int, str]) -> Gallery:
        """Returns the gallery after the attacks of all processes on captions."""
        attacked = dict(enumerate(self.gallery.captions))
        for part in self.group.gather(captions):
            attacked |= part
        return embedded(self.model, list(attacked.values()), self.gallery.owner)

    def _ranked(self, features: list[Tensor], images: dict[int, Tensor], texts: Gallery) -> dict[str, Ranks]:
        """Ranks, by the unit features of this process's batches, and again by matching its images if that is wanted."""
        similarity = torch.zeros(len(self.data), len(texts.captions), device=self.device)
        for positions, batch in zip(self._batches(), features, strict=True):
            similarity[positions] = batch @ texts.features.T
        similarity = self.group.sum(similarity)
        found = {"": ranks(similarity, similarity, texts.owner)}
        if not self.protocol.rerank:
            return found
        rows, columns = (candidates(similarity, self.protocol.rerank, dim) for dim in (1, 0))
        scores = similarity + self.group.sum(matching(self.model, images, texts.captions, rows | columns))
        again = ranks(first(similarity, scores, rows), first(similarity, scores, columns), texts.owner)
        return found | {"itm_": again}

    def _batches(self) -> Sequence[Tensor]:
        batches = torch.split(torch.arange(len(self.data)), self.protocol.batch_size)
        return batches[self.group.rank :: self.group.world_size]
