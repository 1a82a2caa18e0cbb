"""Losses against captions: contrastive, and image-text matching."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from advlora.config.losses import ContrastiveConfig, MatchingConfig
from advlora.distributed import SOLO, Group
from advlora.losses.base import Loss, Step
from advlora.losses.encoder import Encoder
from advlora.losses.parts import Parts, built
from advlora.randomness import generator


class CaptionTable:
    """The distinct captions of a training set, and which of them a sample has in an epoch.

    Attributes:
        distinct: The captions, each once.
        ids: Caption of every sample in this epoch `(N,)`.
    """

    def __init__(self, references: Sequence[Sequence[str]], seed: int, device: torch.device) -> None:
        """Takes all captions of every sample; an epoch draws one of them for each."""
        self.distinct = tuple(dict.fromkeys(caption for captions in references for caption in captions))
        place = {caption: position for position, caption in enumerate(self.distinct)}
        self.counts = torch.tensor([len(captions) for captions in references])
        self.starts = self.counts.cumsum(0) - self.counts
        self.flat = torch.tensor([place[caption] for captions in references for caption in captions], device=device)
        self.seed = seed
        self.ids = self.flat[self.starts]

    def start_epoch(self, epoch: int) -> None:
        """Draws the captions of an epoch."""
        if bool((self.counts > 1).any()):
            share = torch.rand(len(self.counts), generator=generator(self.seed, "captions", epoch))
            self.ids = self.flat[self.starts + (share * self.counts).long()]

    def own(self, sample: int) -> set[int]:
        """Returns all captions of a sample."""
        start = int(self.starts[sample])
        return set(self.flat[start : start + int(self.counts[sample])].tolist())


class Contrastive(Loss):
    """Contrastive loss against the captions of the whole batch.

    Image to text: l_i = logsumexp_j s(i, caption_j) - s(i, caption_i), s = scale times cosine. Every copy of the
    sample's own caption is a positive: they share one feature, so this is the supervised contrastive loss L_out
    (Khosla et al. 2020, equation 2). While the text tower is frozen there is no other direction, and a process needs
    only its own images and all captions. If the text tower is trained, the loss is the mean of this and of
    l_i = logsumexp_j s(j, caption_i) - s(i, caption_i) over the images j of the batch, gathered from all processes.
    """

    def __init__(
        self,
        captions: Tensor,
        caption_ids: Tensor,
        scale: Tensor,
        *,
        table: CaptionTable | None = None,
        live: bool = False,
        group: Group = SOLO,
    ) -> None:
        """Takes unit features of the distinct captions `(T, D)`, caption per sample `(N,)` and the logit scale.

        Args:
            captions: Features from the pretrained text tower; unused where `live`.
            caption_ids: Rows of `captions`.
            scale: The logit scale.
            table: Draws the captions of an epoch; None where they stay.
            live: Whether the text tower is trained, so that the captions of a batch are embedded in every step.
            group: The processes that share a batch.
        """
        self.captions, self.caption_ids, self.scale, self.table, self.live = captions, caption_ids, scale, table, live
        self.group = group
        self.rows = torch.arange(0 if table is None else len(table.distinct))

    def __call__(self, features: Tensor, samples: Tensor, batch: Tensor) -> Tensor:
        """See `Loss`."""
        images = self.scale * normalize(features.float(), dim=-1)  # (b, D)
        own = self._texts(samples)  # (b, D)
        right = (images * own).sum(-1)  # (b,)
        towards_text = (images @ self._texts(batch).T).logsumexp(-1) - right  # (b, B) -> (b,)
        if not self.live:
            return towards_text
        # Images of the whole batch against the captions of this process: (B, D) @ (D, b) -> (B, b) -> (b,)
        towards_image = (self.group.rows(images, len(batch)) @ own.T).logsumexp(0) - right
        return (towards_text + towards_image) / 2

    def start_epoch(self, epoch: int) -> None:
        """See `Loss`."""
        if self.table is not None:
            self.table.start_epoch(epoch)
            self.caption_ids = self.table.ids

    def prepare(self, encoder: Encoder, step: Step, *, update: bool) -> None:
        """Embeds the captions of the batch where the text tower is trained."""
        if not self.live or self.table is None:
            return
        present = torch.unique(self.caption_ids[step.batch])
        with torch.set_grad_enabled(update):
            captions = [self.table.distinct[number] for number in present.tolist()]
            self.captions = normalize(encoder.texts(captions).float(), dim=-1)  # (t, D), t captions in the batch
        # Row of `captions` by number of a caption; only those of captions in the batch are read.
        self.rows = self.rows.to(present.device)
        self.rows[present] = torch.arange(len(present), device=present.device)

    def _texts(self, samples: Tensor) -> Tensor:
        ids = self.caption_ids[samples]
        return self.captions[self.rows[ids] if self.live else ids]


class Matching(Loss):
    """Image-text matching with a hard negative (ITM, Li et al. 2022, section 3.2).

    Binary cross-entropy of the sample's own caption and of the caption in the batch that is most similar to the clean
    image without belonging to it, mean of both. Negative images are left out, so that a sample's loss depends on its
    own image only. Together with a contrastive loss, both share one pass of the vision tower.
    """

    def __init__(
        self, table: CaptionTable, texts: Tensor, contrastive: Contrastive | None = None, weight: float = 1.0
    ) -> None:
        """Takes the captions, their frozen unit features `(T, D)`, and a contrastive loss to which it is added."""
        self.table, self.texts, self.contrastive, self.weight = table, texts, contrastive, weight
        self.negatives: list[int | None] = []

    def __call__(self, features: Tensor, samples: Tensor, batch: Tensor) -> Tensor:
        """Refuses: matching needs tokens, not embeddings."""
        raise NotImplementedError("matching compares tokens; call `attacked` or `objective`")

    def start_epoch(self, epoch: int) -> None:
        """See `Loss`."""
        (self.contrastive or self.table).start_epoch(epoch)

    def prepare(self, encoder: Encoder, step: Step, *, update: bool) -> None:
        """Finds the hard negatives, once per step."""
        if self.contrastive is not None:
            self.contrastive.prepare(encoder, step, update=update)
        if not update:
            self.negatives = self._hardest(encoder, step)

    def attacked(self, encoder: Encoder, images: Tensor, step: Step) -> Tensor:
        """See `Loss`."""
        tokens = encoder.tokens(images)
        matching = self._matching(encoder, tokens, step)
        if self.contrastive is None:
            return matching
        return self.contrastive(encoder.project(tokens), step.samples, step.batch) + self.weight * matching

    def _matching(self, encoder: Encoder, tokens: Tensor, step: Step) -> Tensor:
        if not len(tokens):  # this process has no sample of the last batch, but needs a (zero) gradient
            return tokens.sum((1, 2))
        captions = [self.table.distinct[number] for number in self.table.ids[step.samples].tolist()]
        positive = softplus(-encoder.match(tokens, captions).float())  # (b,)
        there = [place for place, number in enumerate(self.negatives) if number is not None]
        if not there:
            return positive
        wrong = [self.table.distinct[number] for number in self.negatives if number is not None]
        negative = softplus(encoder.match(tokens[there], wrong).float())  # (n,), n samples with a negative
        return positive.index_add(0, torch.tensor(there, device=positive.device), negative) / 2

    @torch.no_grad()
    def _hardest(self, encoder: Encoder, step: Step) -> list[int | None]:
        """Returns the caption of other samples that is most similar to each image; None where the batch has none."""
        present = torch.unique(self.table.ids[step.batch])
        similarity = normalize(encoder.images(step.clean).float(), dim=-1) @ self.texts[present].T  # (b, t)
        found: list[int | None] = []
        for row, sample in zip(similarity.cpu(), step.samples.tolist(), strict=True):
            own = self.table.own(sample)
            order = [int(present[place]) for place in row.argsort(descending=True).tolist()]
            found.append(next((number for number in order if number not in own), None))
        return found


def captions_of(parts: Parts) -> tuple[CaptionTable, Tensor]:
    """Returns the captions of the training set, and the pretrained model's unit features of them, `(T, D)`."""
    table = CaptionTable(parts.data.references, parts.config.seed, parts.device)
    return table, parts.frozen.text_features(parts.config.model, table.distinct).to(parts.device)


def contrastive(table: CaptionTable, texts: Tensor, parts: Parts) -> Contrastive:
    """Returns the contrastive loss against these captions."""
    live = parts.adapted.trains_text
    return Contrastive(texts, table.ids, parts.scale, table=table, live=live, group=parts.group)


@built.register
def _contrastive(loss: ContrastiveConfig, parts: Parts) -> Loss:
    table, texts = captions_of(parts)
    alone = contrastive(table, texts, parts)
    return Matching(table, texts, alone, loss.itm) if loss.matches else alone


@built.register
def _matching(loss: MatchingConfig, parts: Parts) -> Loss:
    return Matching(*captions_of(parts))
