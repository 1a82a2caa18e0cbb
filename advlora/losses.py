"""What the adapted model is trained to do, per sample. During training the attacker maximises the same loss."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from advlora.config import TrialConfig
from advlora.data import ImageTextSet
from advlora.workbench import Workbench


class Loss(ABC):
    """A loss of image embeddings. What it compares with is frozen, so every process holds it for all samples."""

    @abstractmethod
    def __call__(self, features: Tensor, samples: Tensor, batch: Tensor) -> Tensor:
        """Returns the loss of each sample.

        Args:
            features: `(b, D)`, embeddings, not normalised.
            samples: `(b,)`, their positions in the training set.
            batch: `(B,)`, the positions of the whole batch over all processes.

        Returns:
            `(b,)`, float32.
        """


class ClassCrossEntropy(Loss):
    """Cross-entropy against the text features of the classes (TeCoA, Mao et al. 2023, equation 4)."""

    def __init__(self, classes: Tensor, labels: Tensor, scale: Tensor) -> None:
        """Takes unit class features `(C, D)`, labels of the training set `(N,)` and the logit scale."""
        self.classes, self.labels, self.scale = classes, labels, scale

    def __call__(self, features: Tensor, samples: Tensor, batch: Tensor) -> Tensor:
        """See `Loss`; the batch does not matter."""
        logits = self.scale * normalize(features.float(), dim=-1) @ self.classes.T
        return cross_entropy(logits, self.labels[samples], reduction="none")


class Contrastive(Loss):
    """Image-to-text contrastive loss against the captions of the whole batch.

    l_i = logsumexp_j s(i, caption_j) - s(i, caption_i), s = scale times cosine. Every copy of the sample's own
    caption is a positive: they share one feature, so this is the supervised contrastive loss L_out (Khosla et al.
    2020, equation 2). The text tower is frozen, hence there is no text-to-image direction, and a process needs only
    its own images beside all captions.
    """

    def __init__(self, captions: Tensor, caption_ids: Tensor, scale: Tensor) -> None:
        """Takes unit features of the distinct captions `(T, D)`, caption per sample `(N,)` and the logit scale."""
        self.captions, self.caption_ids, self.scale = captions, caption_ids, scale

    def __call__(self, features: Tensor, samples: Tensor, batch: Tensor) -> Tensor:
        """See `Loss`."""
        images = self.scale * normalize(features.float(), dim=-1)
        own = (images * self.captions[self.caption_ids[samples]]).sum(-1)
        return (images @ self.captions[self.caption_ids[batch]].T).logsumexp(-1) - own


class Fare(Loss):
    """Squared distance to the pretrained model's embedding of the clean image (Schlarmann et al. 2024, equation 3)."""

    def __init__(self, targets: Tensor) -> None:
        """Takes the embeddings `(N, D)` of the clean training set, not normalised."""
        self.targets = targets

    def __call__(self, features: Tensor, samples: Tensor, batch: Tensor) -> Tensor:
        """See `Loss`; the batch does not matter."""
        return (features.float() - self.targets[samples]).square().sum(-1)


def build_loss(config: TrialConfig, bench: Workbench, data: ImageTextSet, scale: Tensor) -> Loss:
    """Builds the loss of a trial.

    Args:
        config: The trial.
        bench: Gives the frozen features.
        data: The training set.
        scale: The model's logit scale, on the device of training.
    """
    device, kind = scale.device, config.loss.kind
    if kind == "cross_entropy":
        classes = bench.class_features(config.model, config.data).to(device)
        return ClassCrossEntropy(classes, data.labels.to(device), scale)
    if kind == "contrastive":
        distinct = tuple(dict.fromkeys(data.captions))
        place = {caption: position for position, caption in enumerate(distinct)}
        ids = torch.tensor([place[caption] for caption in data.captions], device=device)
        return Contrastive(bench.text_features(config.model, distinct).to(device), ids, scale)
    return Fare(bench.image_features(config.model, data, device).to(device))
