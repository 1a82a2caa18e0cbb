"""Which metrics a trial can have: what a search may optimise, and what an ablation may report."""

from __future__ import annotations

from collections.abc import Sequence

from advlora.config import EvaluationProtocol
from advlora.metrics import ATTACK_SUCCESS, COSTS, MEAN_PER_CLASS, MEAN_RECALL, RERANKED, SIZES, Metric, recall_names


def selectable(protocol: EvaluationProtocol) -> tuple[Metric, ...]:
    """Returns what a finished trial has on `val`, and its costs and sizes."""
    robust = (Metric.robust("val", epsilon) for epsilon in _epsilons(protocol))
    return (Metric.clean("val"), *robust, *COSTS, *SIZES)


def reportable(protocol: EvaluationProtocol, transfer: Sequence[str] = ()) -> tuple[Metric, ...]:
    """Returns what an ablation may report beside robust and clean accuracy.

    Which of them a trial has follows from its data: means over the classes with classes, recalls with captions,
    `attack_success_rate` with a backdoor.

    Args:
        protocol: The evaluation.
        transfer: Names of the further data sets.
    """
    own = tuple(metric for split in ("test", "val") for metric in _measured(split, protocol))
    places = (None, *transfer) if transfer else ()
    return own + tuple(metric.transferred(place) for place in places for metric in _classified("test", protocol))


def _measured(split: str, protocol: EvaluationProtocol) -> tuple[Metric, ...]:
    epsilons, ways = _epsilons(protocol), (False, True) if protocol.rerank else (False,)
    single = [name for reranked in ways for name in recall_names(reranked=reranked)]
    recalls = [*single, *((RERANKED if reranked else "") + MEAN_RECALL for reranked in ways)]
    return (
        *_classified(split, protocol),
        Metric(split, ATTACK_SUCCESS),
        *(Metric.clean(split, name) for name in recalls),
        *(Metric.robust(split, epsilon, name) for epsilon in epsilons for name in recalls),
        *(Metric.success(split, epsilon, name) for epsilon in epsilons for name in single),
    )


def _classified(split: str, protocol: EvaluationProtocol) -> tuple[Metric, ...]:
    return tuple(
        metric
        for name in ("r1", MEAN_PER_CLASS)
        for metric in (
            Metric.clean(split, name),
            *(Metric.robust(split, epsilon, name) for epsilon in _epsilons(protocol)),
        )
    )


def _epsilons(protocol: EvaluationProtocol) -> tuple[float, ...]:
    return tuple(dict.fromkeys((protocol.epsilon, *protocol.curve)))
