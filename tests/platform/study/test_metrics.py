from __future__ import annotations

import pytest
import torch

from advlora.config import EvaluationProtocol, parse
from advlora.evaluation.recall import Ranks
from advlora.metrics import Metric
from advlora_platform.study.metrics import reportable, selectable

pytestmark = pytest.mark.unit
PROTOCOL = parse(EvaluationProtocol, {"curve": ["4/255"], "rerank": 8})
RANKS = Ranks(torch.tensor([0, 7]), torch.tensor([0, 3]))


def names(metrics) -> list[str]:
    return [str(metric) for metric in metrics]


def test_a_search_may_optimise_accuracies_on_val_costs_and_sizes():
    found = names(selectable(PROTOCOL))
    assert found[:3] == ["val/clean_r1", "val/robust_r1:8_255", "val/robust_r1:4_255"]
    assert {"cost/seconds", "cost/peak_memory_mb", "params/trainable_fraction"} <= set(found)
    assert not [name for name in found if name.startswith("test/")]


def test_an_ablation_may_report_what_an_evaluation_measures():
    measured = [f"test/clean_{name}" for name in RANKS.recalls()]
    measured += [f"test/robust_itm_{name}:4_255" for name in RANKS.recalls()]
    measured += [f"val/success_{name}:8_255" for name in RANKS.success_rates(RANKS)]
    found = names(reportable(PROTOCOL))
    measured += ["test/clean_mean_per_class", "val/robust_mean_per_class:4_255"]
    assert {*measured, "test/attack_success_rate", "test/clean_r1", "val/robust_r1:4_255"} <= set(found)
    assert len(found) == len(set(found))


def test_numbers_on_further_sets_and_their_means_may_be_reported():
    found = names(reportable(PROTOCOL, ("cars", "imagenet-r")))
    further = [name for name in found if "transfer" in name]
    assert len(further) == 3 * 6
    assert {"test/transfer/robust_r1:4_255", "test/transfer/imagenet-r/clean_mean_per_class"} < set(further)
    assert [str(Metric.parse(name)) for name in further] == further
    assert {Metric.parse(name).unit for name in further} == {"%"}
    assert not [name for name in names(reportable(PROTOCOL)) if "transfer" in name]


def test_names_of_reranking_are_there_where_it_is_done():
    assert not [name for name in names(reportable(EvaluationProtocol())) if "itm_" in name]


def test_only_of_successes_less_is_better():
    lower = [name for name in names(reportable(PROTOCOL)) if Metric.parse(name).direction == "min"]
    assert lower == [name for name in names(reportable(PROTOCOL)) if "success" in name]
