from __future__ import annotations

import pytest

from advlora.errors import UserError
from advlora_platform import planning
from advlora_platform.launch import cell_factory
from advlora_platform.planning import plan_study
from advlora_platform.search.agenda import plan_arms
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.ledger import Ledger
from advlora_platform.study.library import load_study

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def short_probe(monkeypatch):
    monkeypatch.setattr(planning, "PROBE_SECONDS", 0.05)


def quickstart(*overrides):
    return load_study("quickstart", "ablation", overrides)


def test_an_ablation_counts_tuning_and_cells_of_every_arm(tmp_path):
    plan = plan_study(quickstart(), tmp_path)
    assert len(plan.arms) == 10
    assert plan.trials == 9 * 3 + 10 * 3
    by_name = {arm.name: arm for arm in plan.arms}
    assert by_name["pretrained"].tuning == 0
    # One pass of PGD-2 costs (2K + 2) F with LoRA and (2K + 3) F in full fine-tuning: 1024 images, 2 epochs.
    assert by_name["full fine-tuning"].forwards - by_name["LoRA"].forwards == 1024 * 2
    assert by_name["LoRA"].forwards - by_name["LoRA"].tuning_forwards == 500 * 22


def test_what_is_done_is_not_planned_again(tmp_path):
    study = quickstart()
    before = plan_study(study, tmp_path)
    ledger = Ledger(StudyFolder(tmp_path))
    cell = plan_arms(study, cell_factory(study), {})[0].tuning[0]
    ledger.trial_finished(cell, {"val/robust_r1:8_255": 0.5}, stopped_early=False)
    after = plan_study(study, tmp_path)
    assert before.arms[0].left - after.arms[0].left == before.arms[0].tuning_forwards
    assert "   1 " in after.to_text().splitlines()[3]


def test_the_estimate_grows_with_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "_seconds_per_forward", lambda config, slots: 1e-4)
    small = plan_study(quickstart("seeds=[0]", "tuning=null"), tmp_path)
    large = plan_study(quickstart("seeds=[0,1,2,3]", "tuning=null"), tmp_path)
    assert large.seconds == pytest.approx(4 * small.seconds)


def test_the_probe_measures_this_machine(tmp_path):
    assert 1e-6 < plan_study(quickstart(), tmp_path).seconds_per_forward < 1e-1


def test_a_sweep_is_one_line(tmp_path):
    plan = plan_study(load_study("quickstart", "sweep"), tmp_path)
    assert [(arm.name, arm.cells) for arm in plan.arms] == [("search", 8)]
    assert plan.to_json()["trials"] == 8


def test_what_fits_nowhere_is_refused(tmp_path):
    with pytest.raises(UserError, match="4096 worker"):
        plan_study(quickstart("resources.workers=4096"), tmp_path)
