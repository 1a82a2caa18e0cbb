"""Losses against the text features of the classes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, normalize

from advlora.config.losses import CrossEntropyConfig, PmgAftConfig, TradesConfig, no_classes
from advlora.data import load_manifest
from advlora.errors import DataError
from advlora.evaluation.zero_shot import live_class_features
from advlora.losses.base import Loss, Step
from advlora.losses.encoder import Encoder
from advlora.losses.parts import Parts, built

Live = Callable[[Encoder], Tensor]
"""Embeds the classes `(C, D)` by a text tower that is trained."""


class ClassCrossEntropy(Loss):
    """Cross-entropy against the text features of the classes (TeCoA, Mao et al. 2023, equation 4)."""

    def __init__(self, classes: Tensor, labels: Tensor, scale: Tensor, live: Live | None = None) -> None:
        """Takes unit class features `(C, D)`, labels of the training set `(N,)` and the logit scale.

        Args:
            classes: Features from the pretrained model.
            labels: The classes of the samples.
            scale: The logit scale.
            live: Computes the class features of the current model; None where the text tower is frozen.
        """
        self.classes, self.labels, self.scale, self.live = classes, labels, scale, live
        self.embedded = classes

    def __call__(self, features: Tensor, samples: Tensor, batch: Tensor) -> Tensor:
        """See `Loss`; the batch does not matter."""
        return cross_entropy(self.logits(features), self.labels[samples], reduction="none")

    def logits(self, features: Tensor) -> Tensor:
        """Returns scaled cosines `(b, C)`."""
        return self.scale * normalize(features.float(), dim=-1) @ self.classes.T  # (b, D) @ (D, C)

    def embed_texts(self, encoder: Encoder, step: Step) -> None:
        """Embeds the texts of all classes where the text tower is trained."""
        if self.live is not None:
            self.embedded = self.live(encoder)

    def prepare(self, encoder: Encoder, step: Step, *, update: bool) -> None:
        """See `Loss`."""
        if self.live is not None:
            self.classes = self.embedded if update else self.embedded.detach()


class Trades(ClassCrossEntropy):
    """TRADES (Zhang et al. 2019, equation 5): CE(clean) + beta KL(p(clean) || p(attacked)).

    The attacker maximises the KL, which has no gradient at the clean image, so the attack needs a random start.
    """

    def __init__(self, classes: Tensor, labels: Tensor, scale: Tensor, live: Live | None, beta: float) -> None:
        super().__init__(classes, labels, scale, live)
        self.beta = beta
        self.clean: Tensor

    def prepare(self, encoder: Encoder, step: Step, *, update: bool) -> None:
        """See `Loss`."""
        super().prepare(encoder, step, update=update)
        with torch.set_grad_enabled(update):
            self.clean = self.logits(encoder.images(step.clean))

    def attacked(self, encoder: Encoder, images: Tensor, step: Step) -> Tensor:
        """See `Loss`."""
        return divergence(self.clean, self.logits(encoder.images(images)))

    def objective(self, encoder: Encoder, images: Tensor, step: Step) -> Tensor:
        """See `Loss`."""
        natural = cross_entropy(self.clean, self.labels[step.samples], reduction="none")
        return natural + self.beta * self.attacked(encoder, images, step)


class PretrainedGuided(ClassCrossEntropy):
    """PMG-AFT (Wang et al. 2024, equations 4 to 7): the attacker maximises the cross-entropy.

    CE(attacked) + w_t D(attacked, pretrained on attacked) + w_c D(attacked, clean), gradients through all but the
    pretrained model. As in the authors' code (`PMG_AFT.py`, function `train`) D(p, reference) is KL(reference || p),
    added up over the batch while the CE is its mean, and logits are cosines without the model's scale. In the paper D
    is KL(p || reference), averaged.
    """

    def __init__(
        self,
        classes: Tensor,
        labels: Tensor,
        scale: Tensor,
        live: Live | None,
        config: PmgAftConfig,
    ) -> None:
        own = config.logit_scale
        super().__init__(classes, labels, scale if own is None else torch.full_like(scale, own), live)
        self.frozen, self.config = classes, config

    def objective(self, encoder: Encoder, images: Tensor, step: Step) -> Tensor:
        """See `Loss`."""
        unit = normalize(encoder.teacher(images).float(), dim=-1)
        teacher = self.scale * unit @ self.frozen.T  # (b, D) @ (D, C) -> (b, C)
        attacked, clean = self.logits(encoder.images(images)), self.logits(encoder.images(step.clean))
        guided = self.config.teacher_weight * self._divergence(attacked, teacher)
        guided = guided + self.config.clean_weight * self._divergence(attacked, clean)
        # The loss of a step is the mean over its batch: B times a term is its sum.
        count = len(step.batch) if self.config.reduction == "sum" else 1
        return cross_entropy(attacked, self.labels[step.samples], reduction="none") + count * guided

    def _divergence(self, attacked: Tensor, reference: Tensor) -> Tensor:
        forward = self.config.divergence == "forward"
        return divergence(reference, attacked) if forward else divergence(attacked, reference)


def divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """Returns KL(softmax(logits) || softmax(reference)) per row of logits `(b, C)`, `(b,)`."""
    ours, theirs = log_softmax(logits, -1), log_softmax(reference, -1)
    return kl_div(theirs, ours, reduction="none", log_target=True).sum(-1)


def _class_features(parts: Parts) -> tuple[Tensor, Tensor, Tensor, Live | None]:
    """Returns class features `(C, D)`, labels `(N,)`, the logit scale, and what embeds the classes in every step."""
    manifest = load_manifest(parts.config.data)
    if manifest.task == "retrieval":
        raise DataError(no_classes(parts.config.loss.kind, manifest.name))

    def live(encoder: Encoder) -> Tensor:
        return live_class_features(encoder.texts, manifest)

    labels = parts.data.labels.to(parts.device)
    if not parts.adapted.trains_text:
        return parts.pretrained_classes(), labels, parts.scale, None
    unused = torch.zeros(len(manifest.classes), parts.width, device=parts.device)
    return parts.pretrained_classes() if parts.config.loss.needs_originals else unused, labels, parts.scale, live


@built.register
def _cross_entropy(loss: CrossEntropyConfig, parts: Parts) -> Loss:
    return ClassCrossEntropy(*_class_features(parts))


@built.register
def _trades(loss: TradesConfig, parts: Parts) -> Loss:
    return Trades(*_class_features(parts), loss.beta)


@built.register
def _pretrained_guided(loss: PmgAftConfig, parts: Parts) -> Loss:
    return PretrainedGuided(*_class_features(parts), loss)
