"""From a `TrialConfig` to its loss."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from advlora.adapters import AdaptedModel
from advlora.check import no_classes
from advlora.config import TrialConfig
from advlora.data import ImageTextSet, load_manifest
from advlora.distributed import SOLO, Group
from advlora.errors import DataError, ModelError
from advlora.evaluation.zero_shot import live_class_features
from advlora.losses.base import FrozenFeatures, Loss
from advlora.losses.captions import CaptionTable, Contrastive, Matching
from advlora.losses.classes import ClassCrossEntropy, PretrainedGuided, Trades
from advlora.losses.cleaning import CleanClip, PerturbAndRecover
from advlora.losses.fare import Fare


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
        ModelError: If the model has no matching head, and the loss needs one.
    """
    kind, device = config.loss.kind, adapted.model.logit_scale.device
    if config.loss.matches and not (adapted.model.matches and data.images.dim() == 4):
        raise ModelError("loss: image-text matching needs images, and a model with a matching head, such as BLIP")
    if kind == "cleanclip" and data.images.dim() != 4:
        raise DataError(f"loss.kind: 'cleanclip' makes views of images, but data set '{config.data.name}' holds videos")
    if kind == "fare":
        return Fare(frozen.image_features(config.model, data, device).to(device))
    if kind in ("contrastive", "itm", "cleanclip", "par"):
        return _caption_loss(config, frozen, data, adapted, group)
    manifest = load_manifest(config.data)
    if manifest.task == "retrieval":
        raise DataError(no_classes(kind, manifest.name))
    classes = frozen.class_features(config.model, config.data).to(device)
    live = None
    if adapted.trains_text:
        live = partial(live_class_features, adapted.model.embed_texts, manifest)
    common = (classes, data.labels.to(device), adapted.model.logit_scale)
    if kind == "trades":
        return Trades(*common, live, config.loss.beta)
    if kind == "pmg_aft":
        return PretrainedGuided(*common, live, config.loss.teacher_weight, config.loss.clean_weight)
    return ClassCrossEntropy(*common, live)


def _cleaning_loss(
    contrastive: Contrastive, config: TrialConfig, frozen: FrozenFeatures, data: ImageTextSet, adapted: AdaptedModel
) -> Loss:
    scale, settings = adapted.model.logit_scale, config.loss
    if settings.kind == "cleanclip":
        return CleanClip(contrastive, settings.self_weight, scale, config.seed)
    poisoned = frozen.image_features(config.model, data, scale.device).to(scale.device)
    return PerturbAndRecover(contrastive, settings.push_weight, poisoned, settings.push_until)


def _caption_loss(
    config: TrialConfig, frozen: FrozenFeatures, data: ImageTextSet, adapted: AdaptedModel, group: Group
) -> Loss:
    scale = adapted.model.logit_scale
    table = CaptionTable(data.references, config.seed, scale.device)
    texts: Tensor = frozen.text_features(config.model, table.distinct).to(scale.device)
    contrastive = Contrastive(texts, table.ids, scale, table=table, live=adapted.trains_text, group=group)
    if config.loss.kind == "itm":
        return Matching(table, texts)
    if config.loss.kind in ("cleanclip", "par"):
        return _cleaning_loss(contrastive, config, frozen, data, adapted)
    if config.loss.itm:
        return Matching(table, texts, contrastive, config.loss.itm)
    return contrastive
