"""What can be found to be wrong with a trial before any weight is read."""

from __future__ import annotations

from functools import cache

from advlora.adapters.check import check_adapter
from advlora.adapters.methods import method_of
from advlora.adapters.placement import layer_ranks
from advlora.attacks import misfits
from advlora.config import (
    AdapterConfig,
    DataConfig,
    EvaluationProtocol,
    LowRankAdapter,
    ModelConfig,
    TransferConfig,
    TrialConfig,
)
from advlora.config.losses import no_bias, no_classes
from advlora.data import Manifest, check_data, load_manifest
from advlora.data.layouts import forget_listings, layout_of
from advlora.data.splits import split_labels
from advlora.data.transfer import NamedSet, measured_split, transfer_sets
from advlora.errors import DataError, ModelError
from advlora.evaluation.retrieval import check_protocol
from advlora.models import blank_tower, has_logit_bias, has_matching_head, tower_names
from advlora.models.base import Tower, TowerName


def check_trial(config: TrialConfig) -> list[str]:
    """Checks a configuration against its model and its data.

    Returns:
        One sentence per problem; all that were found.
    """
    data = list(_data_problems(config.data, ("train", "val", "test") if config.adapter.trains else ("val", "test")))
    try:
        problems = check_placement(config.model, config.adapter)
    except ModelError as error:
        return [*error.problems, *data]
    if config.loss.matches and not has_matching_head(config.model):
        problems.append(
            f"loss: image-text matching needs a model with a matching head, such as BLIP; "
            f"'{config.model.name}' has none"
        )
    if config.loss.needs_bias and config.adapter.trains and not has_logit_bias(config.model):
        problems.append(no_bias(config.loss.kind, config.model.name))
    return [*problems, *data, *([] if data else _loss_problems(config))]


def check_evaluation(config: TrialConfig, protocol: EvaluationProtocol) -> list[str]:
    """Checks a protocol against the task of a trial's data set, and against its model.

    Returns:
        One sentence per problem; none where the data set or the model is unknown, which `check_trial` says.
    """
    try:
        manifest = load_manifest(config.data)
        matches = bool(protocol.rerank) and has_matching_head(config.model)
    except (DataError, ModelError):
        return []
    if manifest.task == "retrieval":
        return check_protocol(protocol, matches=matches, video=layout_of(config.data) == "msrvtt")
    return misfits(protocol.attacks, len(manifest.classes))


def check_transfer(transfer: TransferConfig, protocol: EvaluationProtocol) -> list[str]:
    """Checks the sets that a model is taken to: whether they are there, and fit the protocol.

    Returns:
        One sentence per problem; all that were found.
    """
    try:
        sets = transfer_sets(transfer)
    except DataError as error:
        return error.problems
    return [f"transfer set '{each.name}': {problem}" for each in sets for problem in _set_problems(each, protocol)]


def _set_problems(each: NamedSet, protocol: EvaluationProtocol) -> list[str]:
    try:
        manifest = each.manifest
    except DataError as error:
        return error.problems
    if manifest.task == "retrieval":
        return ["it has captions instead of classes, and a transfer suite compares images with the texts of classes"]
    if (split := measured_split(manifest)) is None:
        return ["it has no samples in split 'test' or 'val'"]
    return [*_data_problems(each.data, (split,))] or misfits(protocol.attacks, len(manifest.classes))


def check_placement(model: ModelConfig, adapter: AdapterConfig) -> list[str]:
    """Checks layers, blocks, ranks and small parameters of an adapter against the shapes of a model.

    Raises:
        ModelError: If the model is unknown, its weights are known to be missing, or it lacks the layers.
    """
    problems = []
    for name in tower_names(adapter.tower):
        tower = _blank(model, name)
        if isinstance(adapter, LowRankAdapter):
            layers = tower.layers(adapter.target, adapter.blocks)
            shapes = {layer: (module.out_features, module.in_features) for layer, module in layers.items()}
            problems += check_adapter(adapter, shapes, layer_ranks(tower, adapter))
        method_of(adapter).thawed(tower)
    return problems


def _loss_problems(config: TrialConfig) -> list[str]:
    try:
        manifest = load_manifest(config.data)
    except DataError as error:
        return error.problems
    if manifest.task == "retrieval" and config.loss.needs_classes and config.adapter.trains:
        return [no_classes(config.loss.kind, manifest.name)]
    if manifest.task != "retrieval" and config.loss.needs_classes and config.adapter.trains:
        return _one_class(config, manifest)
    return []


def _one_class(config: TrialConfig, manifest: Manifest) -> list[str]:
    """Says whether all training samples are of one class; remote shards are not read for it."""
    if any(shard.remote for shard in manifest.splits["train"].shards):
        return []
    labels = split_labels(config.data, "train", config.data.train_samples)
    if len(set(labels)) > 1:
        return []
    return [
        f"data.train_samples: all {len(labels)} training samples of data set '{manifest.name}' are of class "
        f"'{manifest.classes[labels[0]]}', but loss '{config.loss.kind}' needs two classes at least"
    ]


def forget_files() -> None:
    """Makes the next check read models and data sets again; within one study they are read once."""
    _blank.cache_clear()
    _data_problems.cache_clear()
    forget_listings()


@cache
def _blank(model: ModelConfig, tower: TowerName) -> Tower:
    return blank_tower(model, tower)


@cache
def _data_problems(data: DataConfig, splits: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(check_data(data, splits))
