"""From a `TrialConfig` to its loss."""

from __future__ import annotations

from advlora.adapters import AdaptedModel
from advlora.config import TrialConfig
from advlora.data import ImageTextSet
from advlora.distributed import SOLO, Group
from advlora.errors import DataError, ModelError
from advlora.losses import captions, classes, cleaning, fare, matching  # noqa: F401 - each registers its builders
from advlora.losses.base import FrozenFeatures, Loss
from advlora.losses.parts import Parts, built


def build_loss(
    config: TrialConfig, frozen: FrozenFeatures, data: ImageTextSet, adapted: AdaptedModel, group: Group = SOLO
) -> Loss:
    """Builds the loss of a trial.

    Args:
        config: The trial.
        frozen: Gives the embeddings by the pretrained model.
        data: The training set.
        adapted: The model, on the device of training.
        group: The processes that share a batch.

    Raises:
        DataError: If the data set has no classes, or no images, and the loss needs them.
        ModelError: If the model has no matching head, or no bias of its logits, and the loss needs one.
    """
    loss, stills = config.loss, data.images.dim() == 4  # videos: (N, F, 3, H, W)
    if loss.matches and not (adapted.model.matches and stills):
        raise ModelError("loss: image-text matching needs images, and a model with a matching head, such as BLIP")
    if loss.needs_stills and not stills:
        raise DataError(f"loss.kind: '{loss.kind}' needs images, but data set '{config.data.name}' holds videos")
    return built(loss, Parts(config, frozen, data, adapted, group))
