"""What the shipped studies promise: that arms differ in what their names say, and that starts fit together."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from advlora.config import TrialConfig, parse, vary
from advlora.errors import ConfigError
from advlora.identity import fingerprint
from advlora_platform.checking import check_study
from advlora_platform.search.space import check_space, read_point, suggest
from advlora_platform.study.ablation import arms
from advlora_platform.study.library import load_study, shipped
from advlora_platform.training import read_training

pytestmark = pytest.mark.unit

POISONED = Path(__file__).parents[3] / "scripts" / "embedded" / "poisoned.yaml"
STARTS = ("gaussian", "norm-matched", "SVD", "minor SVD", "k-means", "AdvLoRA")


def configurations(name: str) -> dict[str, TrialConfig]:
    study = load_study(name, "ablation")
    return {arm.name: parse(TrialConfig, vary(TrialConfig, study.base, arm.values)) for arm in arms(study)}


@pytest.mark.parametrize("name", shipped("ablation"))
def test_no_two_arms_are_the_same_trial(name):
    found = list(configurations(name).values())
    assert len({fingerprint(config.identity()) for config in found}) == len(found)


def test_the_grid_has_everything_the_reviewers_asked_for_around_advlora():
    grid = {name: config.adapter for name, config in configurations("paper_grid").items()}
    starts = {name: adapter for name, adapter in grid.items() if name.startswith("start: ")}
    assert not any(adapter.alignment.enabled for adapter in starts.values())
    kinds = {adapter.init.kind for adapter in starts.values()}
    assert kinds == {"gaussian", "norm_matched", "pissa", "milora", "kmeans", "random_clusters"}
    assert {a.init.axis for a in starts.values() if a.init.kind == "kmeans"} == {"rows", "columns"}
    lora = [adapter for adapter in grid.values() if adapter.kind == "lora"]
    assert {a.alignment.at for a in lora if a.alignment.enabled} == {"start", "training", "both"}
    both = [adapter.alignment for adapter in lora if adapter.alignment.penalises and adapter.alignment.starts]
    assert {alignment.target for alignment in both} == {"start", "clusters", "weight"}
    default = grid["AdvLoRA"].alignment.weight
    assert sorted({alignment.weight for alignment in both}) == pytest.approx([0.1 * default, default, 10 * default])
    learned = [a.adaptive.learning_rate_factor for a in lora if a.adaptive.enabled and a.adaptive.mode == "learnable"]
    assert {1.0, 10.0, 100.0} == set(learned)
    scales = [adapter for name, adapter in grid.items() if name.startswith("scale: ")]
    assert sorted(a.scaling for a in scales if not a.adaptive.enabled) == [1.0, 2.0, pytest.approx(8**0.5)]
    assert {(a.adaptive.mode, a.adaptive.per) for a in scales if a.adaptive.enabled} == {
        ("learnable", "matrix"),
        ("learnable", "rank"),
        ("scheduled", "matrix"),
    }
    assert {a.target for a in lora} == {"attention-qv", "attention", "mlp", "all-linear"}


def test_the_baselines_are_all_there_by_name_and_train_against_the_same_attack():
    found = configurations("baselines")
    kinds = {config.adapter.kind for config in found.values()}
    assert kinds == {"lora", "dora", "adalora", "norms", "linear_probe", "full", "none"}
    lora = {name: config.adapter for name, config in found.items() if config.adapter.kind == "lora"}
    assert [name for name, adapter in lora.items() if adapter.norm_before] == ["FullLoRA-AT"]
    assert [name for name, adapter in lora.items() if adapter.rslora] == ["rsLoRA"]
    assert {name: adapter.loraplus_lr_ratio for name, adapter in lora.items() if adapter.loraplus_lr_ratio != 1} == {
        "LoRA+": 16
    }
    assert [name for name, adapter in lora.items() if adapter.modules_to_save] == ["LoRA and small parameters"]
    others = {name: config.attack.kind for name, config in found.items() if config.attack.kind != "pgd"}
    assert others == {"LoRA, universal attack": "universal", "LoRA, no attack": "none"}


def test_the_losses_differ_in_nothing_but_the_loss():
    found = [config for config in configurations("losses").values() if config.adapter.kind != "none"]
    assert [config.loss.kind for config in found] == ["cross_entropy", "trades", "pmg_aft", "fare", "contrastive"]
    assert len({config.model_copy(update={"loss": None}).model_dump_json() for config in found}) == 1


def test_the_rank_sweep_has_every_rank_for_every_start_and_both_full_trainings():
    found = configurations("low_rank")
    for start in STARTS:
        assert [found[f"{start} r={rank}"].adapter.rank for rank in (1, 2, 4, 8, 16, 32, 64)] == [
            1, 2, 4, 8, 16, 32, 64
        ]  # fmt: skip
    assert {config.attack.kind for config in found.values() if config.adapter.kind == "full"} == {"pgd", "none"}


def test_the_backdoor_study_starts_where_the_poisoned_training_ends(tmp_path):
    training = read_training(POISONED)
    poison = training.trial.data.poison
    assert poison.rate > 0
    for config in configurations("backdoor").values():
        assert config.model.name == "local-dir:runs/poisoned/model/merged"
        assert config.data.poison == poison.model_copy(update={"rate": 0})
    assert "advlora train scripts/embedded/poisoned.yaml --out runs/poisoned" in POISONED.read_text()


def test_without_the_poisoned_model_the_backdoor_study_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as refused:
        check_study(load_study("backdoor", "ablation"))
    assert refused.value.problems == ["model.name: folder 'runs/poisoned/model/merged' does not exist"]


@pytest.mark.parametrize("name", shipped("sweep"))
def test_no_point_of_a_shipped_space_has_a_key_without_effect(name):
    study = load_study(name, "sweep")
    assert check_space(study.parameters, study.points, study.trial_with, "parameters") == []
    walk = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [suggest(walk.ask(), study.parameters) for _ in range(40)]
    for values in (*drawn, *(read_point(study.parameters, point) for point in study.points)):
        parse(TrialConfig, vary(TrialConfig, study.base, values))
