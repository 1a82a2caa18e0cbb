"""Image-text matching against negatives of the batch (ITM, BLIP)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from advlora.config.losses import ContrastiveConfig, MatchingConfig, Negatives
from advlora.distributed import SOLO, Group
from advlora.losses.base import Loss, Step
from advlora.losses.captions import CaptionTable, Contrastive, captions_of, contrastive
from advlora.losses.encoder import Encoder
from advlora.losses.parts import Parts, built
from advlora.randomness import generator


@dataclass(frozen=True)
class Pairs:
    """The pairs of a step that a process compares: of its own images with captions of the whole batch.

    Attributes:
        rows: `(P,)`, the image of each pair by its place in this process's share.
        captions: P of them.
        labels: `(P,)`, 1 where they belong together, else 0.
        weights: `(P,)`, the share of each pair in the loss of its image.
    """

    rows: Tensor
    captions: list[str]
    labels: Tensor
    weights: Tensor


class Matching(Loss):
    """Image-text matching (ITM, Li et al. 2022, section 3.2, and `models/blip_retrieval.py` for the negatives).

    Cross-entropy of three pairs per sample: it belongs to its caption; its image to a caption of the batch that is not
    its own; its caption to an image of the batch that it does not belong to. The mean over the batch is the published
    loss. A pair of two samples counts in the loss of its image, so that a sample's loss depends on its own image only,
    and processes share no tokens. A sample that has only one negative in the batch, or none, weighs as much as any
    other.

    A negative is drawn by the softmax of scaled cosines, which prefers similar ones, or is the most similar; of the
    clean images, once per step. Never a true pair: nor is a caption that equals one of the image's own. Together with a
    contrastive loss, both share one pass of the vision tower.
    """

    def __init__(
        self,
        table: CaptionTable,
        texts: Tensor,
        contrastive: Contrastive | None = None,
        weight: float = 1.0,
        *,
        negatives: Negatives = "sampled",
        live: bool = False,
        group: Group = SOLO,
    ) -> None:
        """Takes the captions and a contrastive loss to which matching is added.

        Args:
            table: The captions.
            texts: Their frozen unit features, `(T, D)`; unused where `live`.
            contrastive: The loss beside it, if any.
            weight: The weight of matching beside it.
            negatives: Whether negatives are drawn, or the hardest.
            live: Whether the text tower is trained, so that the captions of a batch are embedded in every step.
            group: The processes that share a batch.
        """
        self.table, self.texts, self.contrastive, self.weight = table, texts, contrastive, weight
        self.live, self.group, self.epoch = live, group, 0
        self.choose: Callable[[Tensor, Tensor], Tensor] = {"sampled": sampled, "hardest": hardest}[negatives]
        self.pairs: Pairs

    def __call__(self, features: Tensor, samples: Tensor, batch: Tensor) -> Tensor:
        """Refuses: matching needs tokens, not embeddings."""
        raise NotImplementedError("matching compares tokens; call `attacked` or `objective`")

    def start_epoch(self, epoch: int) -> None:
        """See `Loss`."""
        self.epoch = epoch
        (self.contrastive or self.table).start_epoch(epoch)

    def embed_texts(self, encoder: Encoder, step: Step) -> None:
        """See `Loss`."""
        if self.contrastive is not None:
            self.contrastive.embed_texts(encoder, step)

    def prepare(self, encoder: Encoder, step: Step, *, update: bool) -> None:
        """Chooses the negatives, once per step."""
        if self.contrastive is not None:
            self.contrastive.prepare(encoder, step, update=update)
        if not update:
            self.pairs = self._pairs(encoder, step)

    def attacked(self, encoder: Encoder, images: Tensor, step: Step) -> Tensor:
        """See `Loss`."""
        tokens = encoder.tokens(images)
        matching = self._matching(encoder, tokens)
        if self.contrastive is None:
            return matching
        return self.contrastive(encoder.project(tokens), step.samples, step.batch) + self.weight * matching

    def _matching(self, encoder: Encoder, tokens: Tensor) -> Tensor:
        pairs = self.pairs
        logits = encoder.match(tokens[pairs.rows], pairs.captions).float()  # (P, 2)
        losses = pairs.weights * cross_entropy(logits, pairs.labels, reduction="none")  # (P,)
        return losses.new_zeros(len(tokens)).index_add(0, pairs.rows, losses)  # (P,) -> (b,)

    @torch.no_grad()
    def _pairs(self, encoder: Encoder, step: Step) -> Pairs:
        ids = self.table.ids[step.batch]  # (B,)
        foreign = ~self.table.owned(step.batch, ids)  # (B, B): image of a row, caption of a column
        scores = self._scores(encoder, step, ids)  # (B, B)
        noise = self._noise(step.batch).to(scores)  # (2, B, B)
        text, image = self.choose(scores, noise[0]), self.choose(scores.T, noise[1])
        text, image = _first(text, foreign), _first(image, foreign.T)  # (B,), place of each sample's negative
        has_text, has_image = foreign.any(1), foreign.any(0)  # (B,)
        weights = 1 / (1 + has_text.float() + has_image.float())  # (B,), of each of a sample's pairs

        own = step.samples[:, None] == step.batch[None]  # (b, B): the share's images in the batch
        matched = torch.stack(
            [
                own,  # with their own captions
                own & has_text[None],  # with captions that are not theirs
                own[:, image] & has_image[None],  # with captions to which they do not belong; a column per caption
            ]
        )
        kinds, rows, places = matched.nonzero(as_tuple=True)  # (P,) each
        columns = torch.where(kinds == 1, text[places], places)  # (P,), place of the caption in the batch
        captions = [self.table.distinct[number] for number in ids[columns].tolist()]
        return Pairs(rows, captions, (kinds == 0).long(), weights[places])

    def _scores(self, encoder: Encoder, step: Step, ids: Tensor) -> Tensor:
        """Returns scaled cosines of the batch's images and captions, `(B, B)`, the same in every process."""
        own = normalize(encoder.images(step.clean).float(), dim=-1)  # (b, D)
        images = self.group.rows(own, len(step.batch))  # (B, D)
        if not self.live:
            texts = self.texts[ids]  # (B, D)
        else:
            present, places = torch.unique(ids, return_inverse=True)
            captions = [self.table.distinct[number] for number in present.tolist()]
            texts = normalize(encoder.texts(captions).float(), dim=-1)[places]  # (t, D) -> (B, D)
        return encoder.model.logit_scale * images @ texts.T

    def _noise(self, batch: Tensor) -> Tensor:
        """Returns exponential noise `(2, B, B)` that belongs to seed, epoch and batch, whichever process asks."""
        source = generator(self.table.seed, "negatives", self.epoch, int(batch[0]))
        return torch.empty(2, len(batch), len(batch)).exponential_(generator=source)


def sampled(scores: Tensor, noise: Tensor) -> Tensor:
    """Returns keys `(R, C)` whose largest in a row is drawn by the softmax of its scores (Gumbel-max).

    That holds for any part of a row too, such as its negatives. `noise` is exponential, `(R, C)`.
    """
    return scores - noise.log()


def hardest(scores: Tensor, noise: Tensor) -> Tensor:
    """Returns keys `(R, C)` whose largest in a row is its most similar; without noise."""
    return scores


def _first(keys: Tensor, allowed: Tensor) -> Tensor:
    """Returns the allowed place of the largest key in each row of `(R, C)`, `(R,)`; any place where none is allowed."""
    return keys.masked_fill(~allowed, -torch.inf).argmax(1)


def _matching(
    loss: ContrastiveConfig | MatchingConfig,
    parts: Parts,
    table: CaptionTable,
    texts: Tensor,
    beside: Contrastive | None = None,
    weight: float = 1.0,
) -> Matching:
    live = parts.adapted.trains_text
    return Matching(table, texts, beside, weight, negatives=loss.negatives, live=live, group=parts.group)


@built.register
def _contrastive(loss: ContrastiveConfig, parts: Parts) -> Loss:
    table, texts = captions_of(parts)
    alone = contrastive(table, texts, parts)
    return _matching(loss, parts, table, texts, alone, loss.itm) if loss.matches else alone


@built.register
def _alone(loss: MatchingConfig, parts: Parts) -> Loss:
    return _matching(loss, parts, *captions_of(parts))
