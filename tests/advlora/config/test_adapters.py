from __future__ import annotations

import pytest

from advlora.config import LoraAdapter, TrialConfig, parse
from advlora.config.adapters import AdaLoraAdapter, DoraAdapter, NoAdapter
from advlora.config.inits import GaussianInit, KMeansInit
from advlora.errors import ConfigError

pytestmark = pytest.mark.unit


def adapter(values):
    return parse(TrialConfig, {"adapter": values}).adapter


def problem(values) -> str:
    with pytest.raises(ConfigError) as caught:
        adapter(values)
    (found,) = caught.value.problems
    return found


def test_the_default_is_advlora_with_its_three_ingredients():
    config = adapter({})
    assert config == LoraAdapter()
    assert config.init == KMeansInit()
    assert (config.alignment.enabled, config.alignment.at, config.adaptive.enabled) == (True, "both", True)
    assert config.label == "k-means + alignment + scale"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"kind": "full", "rank": 64}, "adapter.rank: has no effect with adapter.kind 'full'; it takes tower"),
        ({"kind": "none", "tower": "text"}, "adapter.tower: has no effect with adapter.kind 'none'; it takes no keys"),
        ({"kind": "dora", "init": "pissa"}, "adapter.init: has no effect with adapter.kind 'dora'"),
        ({"kind": "adalora", "ranks": {"mlp": 3}}, "adapter.ranks: has no effect with adapter.kind 'adalora'"),
        ({"kind": "adalora", "rslora": True}, "adapter.rslora: has no effect with adapter.kind 'adalora'"),
        ({"warmup": 0.2}, "adapter.warmup: has no effect with adapter.kind 'lora'"),
        ({"init": {"kind": "pissa", "axis": "rows"}}, "adapter.init.axis: has no effect with adapter.init.kind"),
        (
            {"init": {"kind": "random_clusters", "restarts": 4}},
            "adapter.init.restarts: has no effect with adapter.init.kind 'random_clusters'",
        ),
        ({"alignment": {"at": "start", "weight": 1.0}}, "adapter.alignment: weight belongs to the penalty in training"),
        (
            {"alignment": {"at": "start", "target": "weight"}},
            "adapter.alignment: target belongs to the penalty in training, and has no effect with at: start",
        ),
        (
            {"init": "pissa", "alignment": {"target": "clusters"}},
            "adapter: alignment.target: 'clusters' needs an init that starts from clusters, such as 'kmeans', "
            "but init is 'pissa'",
        ),
        (
            {"init": "norm_matched", "alignment": {"target": "clusters"}},
            "adapter: alignment.target: 'clusters' needs an init that starts from clusters",
        ),
        ({"alignment": {"at": "training", "ridge": 1.0}}, "adapter.alignment: ridge belongs to the refit at the start"),
        ({"alignment": {"enabled": False, "at": "start"}}, "adapter.alignment: with enabled: false, at has no effect"),
        ({"adaptive": {"final": 3.0}}, "adapter.adaptive: final belongs to mode: scheduled, and has no effect"),
        (
            {"adaptive": {"mode": "fixed", "final": 3.0, "shape": "cosine"}},
            "adapter.adaptive: final, shape belongs to mode: scheduled",
        ),
        (
            {"adaptive": {"mode": "scheduled", "learning_rate_factor": 2.0}},
            "adapter.adaptive: learning_rate_factor belongs to mode: learnable, and has no effect with scheduled",
        ),
        (
            {"adaptive": {"mode": "fixed", "learning_rate_factor": 2.0}},
            "adapter.adaptive: learning_rate_factor belongs to mode: learnable, and has no effect with fixed",
        ),
        ({"kind": "full", "loraplus_lr_ratio": 16}, "adapter.loraplus_lr_ratio: has no effect with adapter.kind"),
        ({"adaptive": {"enabled": False, "initial": 2.0}}, "adapter.adaptive: with enabled: false, initial"),
    ],
)  # fmt: skip
def test_a_key_without_effect_is_refused(values, sentence):
    assert problem(values).startswith(sentence)


def test_keys_that_have_an_effect_are_accepted():
    assert adapter({"alignment": {"at": "both", "weight": 1.0, "ridge": 0.1}}).alignment.ridge == 0.1
    assert adapter({"alignment": {"at": "training", "target": "clusters"}}).alignment.target == "clusters"
    assert adapter({"adaptive": {"learning_rate_factor": 1.0}}).adaptive.learning_rate_factor == 1.0
    assert adapter({"kind": "dora", "loraplus_lr_ratio": 16}).loraplus_lr_ratio == 16
    assert adapter({"adaptive": {"mode": "scheduled", "final": 3.0, "shape": "cosine"}}).adaptive.final == 3.0
    assert adapter({"init": {"kind": "norm_matched", "clusters": 4, "restarts": 2}}).init.clusters == 4


def test_ranks_at_the_start_by_role():
    lora = LoraAdapter(rank=4, ranks={"mlp": 6})
    assert [lora.rank_of(role) for role in ("query", "out", "up", "down")] == [4, 4, 6, 6]
    assert DoraAdapter(rank=4, ranks={"attention": 2}).rank_of("query") == 2
    assert AdaLoraAdapter(rank=5).rank_of("query") == 8
    assert AdaLoraAdapter(rank=5, initial_rank=6).rank_of("up") == 6


def test_labels_say_which_ingredients_there_are():
    off = {"enabled": False}
    assert adapter({"init": "gaussian", "alignment": off, "adaptive": off}).label == "gaussian"
    assert adapter({"init": "milora", "adaptive": off}).label == "MiLoRA + alignment"
    assert adapter("dora").label == "DoRA"


def test_a_norm_in_front_is_no_linear_map():
    assert LoraAdapter().linear
    assert NoAdapter().linear
    assert not LoraAdapter(norm_before=True, init=GaussianInit(), alignment={"enabled": False}).linear
