"""The captions of a training set, and the contrastive loss against them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize
from torch.nn.utils.rnn import pad_sequence

from advlora.config.losses import SigmoidConfig, no_bias
from advlora.distributed import SOLO, Group
from advlora.errors import ModelError
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
        parts = list(torch.split(self.flat, self.counts.tolist()))
        self.all = pad_sequence(parts, batch_first=True, padding_value=-1)  # (N, most captions of a sample)
        self.seed = seed
        self.ids = self.flat[self.starts]

    def start_epoch(self, epoch: int) -> None:
        """Draws the captions of an epoch."""
        if bool((self.counts > 1).any()):
            share = torch.rand(len(self.counts), generator=generator(self.seed, "captions", epoch))
            self.ids = self.flat[self.starts + (share * self.counts).long()]

    def owned(self, samples: Tensor, ids: Tensor) -> Tensor:
        """Returns which of the captions `ids` `(t,)` are among all captions of which samples `(b,)`, `(b, t)`."""
        return (self.all[samples][:, :, None] == ids).any(1)  # (b, most, 1) == (t,) -> (b, most, t) -> (b, t)


class Contrastive(Loss):
    """Contrastive loss against the captions of the whole batch.

    Image to text: l_i = logsumexp_j s(i, caption_j) - s(i, caption_i), s = scale times cosine. Every copy of the
    sample's own caption is a positive: they share one feature, so this is the supervised contrastive loss L_out
    (Khosla et al. 2020, equation 2). A caption that is the sample's own, but was drawn for another one, is left out of
    j: it is no negative. While the text tower is frozen there is no other direction, and a process needs only its own
    images and all captions. If the text tower is trained, the loss is the mean of this and of
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
        self.group, self.embedded = group, captions
        self.rows = torch.arange(0 if table is None else len(table.distinct))

    def __call__(self, features: Tensor, samples: Tensor, batch: Tensor) -> Tensor:
        """See `Loss`."""
        images = self.scale * normalize(features.float(), dim=-1)  # (b, D)
        own = self._texts(samples)  # (b, D)
        right = (images * own).sum(-1)  # (b,)
        texts = images @ self._texts(batch).T  # (b, D) @ (D, B) -> (b, B)
        towards_text = texts.masked_fill(self._left_out(samples, batch), -torch.inf).logsumexp(-1) - right  # (b,)
        if not self.live:
            return towards_text
        # Images of the whole batch against the captions of this process: (B, D) @ (D, b) -> (B, b) -> (b,)
        others = self.group.rows(images, len(batch)) @ own.T
        towards_image = others.masked_fill(self._left_out(batch, samples), -torch.inf).logsumexp(0) - right
        return (towards_text + towards_image) / 2

    def start_epoch(self, epoch: int) -> None:
        """See `Loss`."""
        if self.table is not None:
            self.table.start_epoch(epoch)
            self.caption_ids = self.table.ids

    def embed_texts(self, encoder: Encoder, step: Step) -> None:
        """Embeds the captions of the batch where the text tower is trained."""
        if not self.live or self.table is None:
            return
        present = torch.unique(self.caption_ids[step.batch])
        captions = [self.table.distinct[number] for number in present.tolist()]
        self.embedded = normalize(encoder.texts(captions).float(), dim=-1)  # (t, D), t captions in the batch
        # Row of `captions` by number of a caption; only those of captions in the batch are read.
        self.rows = self.rows.to(present.device)
        self.rows[present] = torch.arange(len(present), device=present.device)

    def prepare(self, encoder: Encoder, step: Step, *, update: bool) -> None:
        """See `Loss`."""
        if self.live:
            self.captions = self.embedded if update else self.embedded.detach()

    def _left_out(self, images: Tensor, captions: Tensor) -> Tensor:
        """Returns which captions of samples `(t,)` belong to which samples `(b,)` without being drawn for them."""
        ids = self.caption_ids[captions]
        if self.table is None:
            return torch.zeros(len(images), len(ids), dtype=torch.bool, device=ids.device)
        return self.table.owned(images, ids) & (self.caption_ids[images][:, None] != ids)  # (b, t)

    def _texts(self, samples: Tensor) -> Tensor:
        ids = self.caption_ids[samples]
        return self.captions[self.rows[ids] if self.live else ids]


class Sigmoid(Contrastive):
    """Sigmoid loss over all pairs of an image and a caption of the batch (SigLIP, Zhai et al. 2023, algorithm 1).

    l_i = sum_j -log sigmoid(z_ij (s(i, caption_j) + bias)), z_ij = 1 where caption j is that of sample i, which every
    copy of it is, else -1. A caption that is the sample's own, but was drawn for another one, is left out of j. Each
    pair counts once, in the loss of its image, so that the mean over the batch is the published loss in one direction.
    """

    def __init__(self, *arguments: Any, bias: Tensor, **options: Any) -> None:
        """Takes what `Contrastive` does, and the bias of the logits."""
        super().__init__(*arguments, **options)
        self.bias = bias

    def __call__(self, features: Tensor, samples: Tensor, batch: Tensor) -> Tensor:
        """See `Loss`."""
        images = self.scale * normalize(features.float(), dim=-1)  # (b, D)
        logits = images @ self._texts(batch).T + self.bias  # (b, D) @ (D, B) -> (b, B)
        own = self.caption_ids[samples][:, None] == self.caption_ids[batch]  # (b, 1) == (B,) -> (b, B)
        losses = -logsigmoid(torch.where(own, logits, -logits))
        return losses.masked_fill(self._left_out(samples, batch), 0).sum(-1)  # (b, B) -> (b,)


@built.register
def _sigmoid(loss: SigmoidConfig, parts: Parts) -> Loss:
    bias = parts.adapted.model.logit_bias
    if bias is None:
        raise ModelError(no_bias(loss.kind, parts.config.model.name))
    table, texts = captions_of(parts)
    live = parts.adapted.trains_text
    return Sigmoid(texts, table.ids, parts.scale, bias=bias, table=table, live=live, group=parts.group)


def captions_of(parts: Parts) -> tuple[CaptionTable, Tensor]:
    """Returns the captions of the training set, and the pretrained model's unit features of them, `(T, D)`.

    Where the text tower is trained there are none: T is 0.
    """
    table = CaptionTable(parts.data.references, parts.config.seed, parts.device)
    if parts.adapted.trains_text:
        return table, torch.zeros(0, parts.width, device=parts.device)
    return table, parts.pretrained_texts(table.distinct)


def contrastive(table: CaptionTable, texts: Tensor, parts: Parts) -> Contrastive:
    """Returns the contrastive loss against these captions."""
    live = parts.adapted.trains_text
    return Contrastive(texts, table.ids, parts.scale, table=table, live=live, group=parts.group)
