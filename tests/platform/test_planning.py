from __future__ import annotations

import json

import pytest

from advlora.config import EvaluationProtocol, parse
from advlora.evaluation.guards import guard_forwards
from advlora_platform import probe
from advlora_platform.planning import plan_study
from advlora_platform.search.plan import plan_arms
from advlora_platform.search.space import read_point
from advlora_platform.study import Ledger, StudyFolder, trials_of
from advlora_platform.study.library import load_study

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def short_probe(monkeypatch):
    monkeypatch.setattr(probe, "PROBE_SECONDS", 0.05)


def quickstart(*overrides):
    return load_study("quickstart", "ablation", overrides)


def test_an_ablation_counts_tuning_and_trials_of_every_arm(tmp_path):
    plan = plan_study(quickstart(), tmp_path)
    assert len(plan.arms) == 10
    assert plan.trials == 9 * 4 + 10 * 3
    by_name = {arm.name: arm for arm in plan.arms}
    assert by_name["pretrained"].tuning == 0
    # One pass of PGD-2 costs (2K + 2) F with LoRA and (2K + 3) F in full fine-tuning: 896 images, 2 epochs.
    assert by_name["full fine-tuning"].forwards - by_name["LoRA"].forwards == 896 * 2
    # Tuning is not measured on the 500 test images, and not checked.
    checks = guard_forwards(quickstart().protocol)
    assert by_name["LoRA"].forwards - by_name["LoRA"].tuning_forwards == 500 * 22 + checks > 500 * 22


def test_what_is_done_is_not_planned_again(tmp_path):
    study = quickstart()
    before = plan_study(study, tmp_path)
    ledger = Ledger(StudyFolder(tmp_path))
    trial = plan_arms(study, trials_of(study), {})[0].tuning[0]
    ledger.trial_finished(trial, {"val/robust_r1:8_255": 0.5}, stopped_early=False)
    after = plan_study(study, tmp_path)
    assert before.arms[0].left - after.arms[0].left == before.arms[0].tuning_forwards
    assert "   1 " in after.to_text().splitlines()[3]


def test_the_estimate_grows_with_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "seconds_per_forward", lambda config, slots: 1e-4)
    small = plan_study(quickstart("seeds=[0]", "tuning=null"), tmp_path)
    large = plan_study(quickstart("seeds=[0,1,2,3]", "tuning=null"), tmp_path)
    assert large.seconds == pytest.approx(4 * small.seconds)


def test_the_probe_measures_this_machine(tmp_path):
    assert 1e-6 < plan_study(quickstart(), tmp_path).seconds_per_forward < 1e-1


def test_a_sweep_is_one_line(tmp_path):
    plan = plan_study(load_study("quickstart", "sweep"), tmp_path)
    assert [(arm.name, arm.trials) for arm in plan.arms] == [("search", 8)]
    assert plan.to_json()["trials"] == 8


def test_retrieval_is_planned_with_its_own_guards(tmp_path):
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.png").write_bytes(b"not read for a plan")
    names = [f"{split}.png" for split in ("train", "val", "test")]
    entries = [{"filename": name, "split": name[:-4], "sentences": [{"raw": "a cat"}]} for name in names]
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": entries}))
    protocol = "protocol={attacks: [{kind: set-level, steps: 2, scales: [0.5]}], samples: {val: 10, test: 10}}"
    plan = plan_study(quickstart(f"data.name={tmp_path}", protocol, "tuning=null"), tmp_path / "out")
    (pretrained,) = (arm for arm in plan.arms if arm.name == "pretrained")
    settings = {"attacks": [{"kind": "set-level", "steps": 2, "scales": [0.5]}]}
    checks = guard_forwards(parse(EvaluationProtocol, settings), None)
    assert pretrained.forwards == 2 * 10 * (1 + 2 * 2 * 2 + 1) + checks


def test_the_confirmation_of_a_sweep_is_planned_and_what_is_confirmed_is_not_planned_again(tmp_path):
    study = load_study("advlora", "sweep")
    search, confirmation = plan_study(study, tmp_path).arms
    assert (confirmation.name, confirmation.trials, confirmation.done) == ("confirmation", 9, 0)
    assert confirmation.forwards > search.forwards
    ledger, factory = Ledger(StudyFolder(tmp_path)), trials_of(study)
    values = read_point(study.parameters, study.points[0])
    searched = factory.trial("search", study.seed, values, "search")
    ledger.trial_finished(searched, {"val/robust_r1:8_255": 0.5}, stopped_early=False)
    confirmed = factory.trial(f"finalist {searched.id[:8]}", 101, values, "confirm")
    ledger.trial_finished(confirmed, {"val/robust_r1:8_255": 0.4}, stopped_early=False)
    assert [arm.done for arm in plan_study(study, tmp_path).arms] == [1, 1]


def test_a_study_for_a_larger_machine_is_counted_and_the_plan_says_what_does_not_fit(tmp_path):
    plan = plan_study(quickstart("resources.workers=4096"), tmp_path)
    assert (plan.trials, plan.concurrency, plan.seconds) == (66, 0, None)
    assert "here none can run: resources.workers: 4096 worker(s)" in plan.to_text()
    assert plan.to_json()["forwards"] == plan_study(quickstart(), tmp_path).forwards


@pytest.mark.parametrize("name", ["clip_vit_b32", "blip_itm"])
def test_the_spaces_for_a_cluster_are_planned_without_a_hub(tmp_path, name):
    plan = plan_study(load_study(name, "sweep", ["resources.workers=4096"]), tmp_path)  # no machine holds that
    assert [arm.name for arm in plan.arms] == ["search", "confirmation"]
    assert "1 GPU(s)" in plan.obstacle
