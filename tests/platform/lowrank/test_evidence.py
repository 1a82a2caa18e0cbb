"""Low-rank evidence from study folders whose trials were trained for a moment in this process."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from advlora.config import TrialConfig, parse
from advlora.errors import UserError
from advlora.metrics import Metric
from advlora.training.trainer import fine_tune
from advlora.training.workbench import Workbench
from advlora_platform.execution.states import save_state
from advlora_platform.lowrank import findings, gather, two_arms, write_evidence
from advlora_platform.lowrank.evidence import Evidence
from advlora_platform.lowrank.trials import check_comparable, open_study
from advlora_platform.lowrank.write import build_document, metrics
from advlora_platform.search.plan import plan_arms
from advlora_platform.study import Ledger, StudyFolder, open_folder, trials_of
from advlora_platform.study.library import read_study

pytestmark = pytest.mark.unit

OFF = {"init": "gaussian", "alignment": {"enabled": False}, "adaptive": {"enabled": False}}
STUDY = {
    "kind": "ablation",
    "name": "ranks",
    "seeds": [0],
    "base": {
        "data": {"train_samples": 128},
        "adapter": {"target": "attention-qv", **OFF},
        "attack": {"steps": 1},
        "optimiser": {"epochs": 1, "batch_size": 32, "learning_rate": 1e-3},
    },
    "protocol": {
        "attacks": [{"steps": 2}],
        "samples": {"val": 8, "test": 48},
        "interval": 0,
        "guards": {"enabled": False},
    },
    "arms": {
        "full adversarial": {"adapter.kind": "full"},
        "full clean": {"adapter.kind": "full", "attack.kind": "none"},
        "gaussian r=2": {"adapter.rank": 2},
        "SVD r=4": {"adapter.rank": 4, "adapter.init": "pissa"},
    },
}
ROBUST = str(Metric.robust("test", 8 / 255))


def run(folder, bench, **changes):
    """Trains every trial of a study without Ray and leaves the folder as a launch would."""
    study = read_study({**STUDY, **changes})
    opened, factory = open_folder(study, folder, {}), trials_of(study)
    for plan in plan_arms(study, factory, {}):
        for trial in plan.trials:
            *_, report = fine_tune(trial.config, study.protocol, bench=bench, test=True)
            save_state(opened.trial(trial.id), report.state)
            Ledger(opened).trial_finished(trial, report.metrics, stopped_early=False)
    return folder


@pytest.fixture(scope="module")
def bench() -> Workbench:
    return Workbench()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, bench):
    return run(tmp_path_factory.mktemp("ranks"), bench)


@pytest.fixture(scope="module")
def evidence(folder) -> Evidence:
    return gather(folder, ranks=[64, 0, 2, 128])


def test_both_full_trainings_are_measured_layer_by_layer(evidence):
    assert [(change.arm, change.adversarial) for change in evidence.changes] == [
        ("full adversarial", True),
        ("full clean", False),
    ]
    for change in evidence.changes:
        assert len(change.layers) == 24
        for layer in change.layers.values():
            assert 1 <= layer.stable_rank <= layer.entropy_rank <= 128
            assert layer.energy[layer.rank_90 - 1] >= 0.9 - 1e-6
            assert layer.rank_90 == 1 or layer.energy[layer.rank_90 - 2] < 0.9 + 1e-6
        mean = sum(layer.rank_90 for layer in change.layers.values()) / 24
        assert change.means["rank_90"] == pytest.approx(mean)


def test_the_whole_change_is_the_model_that_was_measured_and_full_rank_cuts_nothing(folder, evidence):
    recorded = {record.arm: record.metrics[ROBUST] for record in Ledger(StudyFolder(folder)).records()}
    assert evidence.ranks == (0, 2, 64, 128)
    for change in evidence.changes:
        assert change.whole == recorded[change.arm]
        assert change.truncated[128] == pytest.approx(change.whole, abs=1 / 48)
        assert set(change.truncated) == {0, 2, 64, 128}


def test_trained_adapters_are_told_by_start_and_rank(folder, evidence):
    recorded = {record.arm: record.metrics[ROBUST] for record in Ledger(StudyFolder(folder)).records()}
    assert evidence.trained == {
        "gaussian": {2: {0: recorded["gaussian r=2"]}},
        "PiSSA": {4: {0: recorded["SVD r=4"]}},
    }
    adversarial = evidence.changes[0]
    assert evidence.gap("gaussian", 2).mean == adversarial.truncated[2] - recorded["gaussian r=2"]
    assert evidence.gap("PiSSA", 4) is None  # the change was not cut to this rank


def test_starts_name_every_ingredient():
    def name(**values) -> str:
        return parse(TrialConfig, {"adapter": values}).adapter.label

    assert name() == "k-means + alignment + scale"
    assert name(**OFF) == "gaussian"
    assert name(**{**OFF, "init": "milora"}) == "MiLoRA"
    assert name(init="random_clusters", alignment=OFF["alignment"]) == "random clusters + scale"
    assert name(kind="dora") == "DoRA"


def test_the_smallest_rank_that_is_enough_is_found(evidence):
    def cut(truncated, whole):
        changes = tuple(_with(change, truncated, whole) for change in evidence.changes)
        return replace(evidence, changes=changes)

    assert cut({0: 0.1, 2: 0.47, 64: 0.49, 128: 0.5}, 0.5).enough() == 64
    assert cut({0: 0.1, 2: 0.1, 64: 0.2, 128: 0.3}, 0.5).enough() is None
    said = findings(cut({0: 0.1, 2: 0.49, 64: 0.5, 128: 0.5}, 0.5))[3]
    assert said.startswith("Cut to rank 2, the adversarial change keeps 49.0 % robust accuracy")
    assert "(from 10.0 % robust accuracy at rank 0 to 50.0 %)" in said
    nothing = cut({0: 0.5, 2: 0.5, 64: 0.5, 128: 0.5}, 0.45)
    assert nothing.enough() is None
    assert "gains nothing" in findings(nothing)[3]


def test_a_difference_is_stated_whichever_way_it_falls(evidence):
    def compared(adversarial, clean):
        ranks = {True: adversarial, False: clean}
        changes = [
            _with(change, change.truncated, change.whole, seed=seed, means={**change.means, "rank_90": value})
            for change in evidence.changes
            for seed, value in enumerate(ranks[change.adversarial])
        ]
        return findings(replace(evidence, changes=tuple(changes)))[0]

    assert "adversarial is lower than clean: -2.00 (" in compared([4.0, 5.0, 6.0], [6.0, 7.01, 7.99])
    assert "adversarial is higher than clean" in compared([9.0, 9.1, 9.0], [6.0, 6.0, 6.1])
    assert "not resolved from clean" in compared([4.0, 9.0, 6.0], [6.0, 6.5, 6.0])
    assert "no interval" in compared([4.0], [5.0])


def test_what_was_measured_on_other_images_is_not_compared(evidence):
    fewer = replace(evidence, samples=evidence.samples - 1)
    assert evidence.gap("gaussian", 2) is not None
    assert fewer.gap("gaussian", 2) is None
    assert not any("less training" in finding for finding in findings(fewer))
    (function,) = (section for section in build_document(fewer).parts if section.title == "Function")
    assert f"{evidence.samples} for trained adapters, so that they are not compared" in function.text[0]


def test_everything_is_written_into_the_folder(evidence, tmp_path):
    files = write_evidence(evidence, tmp_path)
    assert all(file.stat().st_size for file in files)
    content = json.loads((tmp_path / "lowrank" / "lowrank.json").read_text())
    assert content["means"]["rank_90"]["adversarial"]["mean"] == evidence.changes[0].means["rank_90"]
    assert content["gaps"]["gaussian"]["2"]["n"] == 1
    text = (tmp_path / "lowrank" / "report.md").read_text()
    for name in ("energy", "layers", "truncation"):
        assert f"(figures/{name}.png)" in text
        assert (tmp_path / "lowrank" / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    table = next(s.table for s in build_document(evidence).parts if s.title == "Function")
    assert table.header == ("rank", "adversarial, truncated", "clean, truncated", "trained: gaussian", "trained: PiSSA")
    assert [row[0] for row in table.rows] == ["0", "2", "4", "64", "128", "whole"]
    assert "<html" in (tmp_path / "lowrank" / "report.html").read_text()


def test_numbers_have_names_for_the_tracker(evidence):
    found = metrics(evidence)
    assert found["lowrank/clean/rank_90"] == evidence.changes[1].means["rank_90"]
    assert found["lowrank/adversarial/truncated/2"] == evidence.changes[0].truncated[2]
    assert "lowrank/gap/gaussian/2" in found
    assert "lowrank/gap/SVD/4" not in found


def test_what_cannot_be_compared_is_refused_with_every_reason(folder, tmp_path, bench):
    arms = {"low": {"adapter.rank": 2}}
    lone = run(tmp_path / "lone", bench, name="lone", arms=arms)
    with pytest.raises(UserError) as refused:
        gather(lone)
    assert [problem.partition(" (")[0] for problem in refused.value.problems] == [
        "study 'lone' has no finished adversarial full fine-tuning",
        "study 'lone' has no finished clean full fine-tuning",
    ]
    base = {**STUDY["base"], "data": {"train_samples": 64}}
    other = run(tmp_path / "other", bench, name="other", arms=arms, base=base, seeds=[1])
    with pytest.raises(UserError, match="'ranks' and the sweep 'other' differ in their data set"):
        gather(folder, other)


def test_one_arm_of_each_kind_is_needed(folder):
    opened = open_study(folder)
    twin = replace(opened.full[0], arm="full adversarial, large steps")
    with pytest.raises(UserError, match="several arms of adversarial full fine-tuning"):
        check_comparable(replace(opened, trials=(*opened.trials, twin)), opened)


def test_the_study_of_two_arms_has_the_full_trainings_of_the_rank_sweep_only():
    study = two_arms(["data.train_samples=64", "seeds=[7]"])
    assert (study.name, set(study.arms), study.seeds) == ("lowrank", {"full adversarial", "full clean"}, (7,))
    assert study.base["data"]["train_samples"] == 64


def _with(change, truncated, whole, **more):
    return replace(change, truncated=truncated, whole=whole, **more)
