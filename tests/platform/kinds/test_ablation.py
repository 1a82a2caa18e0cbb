from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from advlora.training.cost import evaluation_forwards
from advlora_platform.kinds import Ablation
from advlora_platform.study.failures import Failure
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.ledger import reopened
from tests.platform.stories import IDENTITY, ablation, accuracies, factory, records_of

pytestmark = pytest.mark.unit
FOLDER = StudyFolder(Path("unused"))

TUNING = {"parameters": {"optimiser.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2}}, "trials": 2}


def kind(**changes) -> Ablation:
    made = Ablation(ablation(**changes))
    made.trials = factory(made.study)
    return made


def flat(arm, seed):
    return accuracies(0.5 + 0.01 * seed)


def test_its_one_stage_runs_what_the_ledger_does_not_have():
    study = kind(tuning=TUNING)
    (build,) = study.stages()
    stage = build([], FOLDER)
    assert (stage.search.total, stage.search.remaining, stage.scheduler) == (18 + 5 * 2, 28, None)
    records = records_of(study.study, flat)
    assert build(records, FOLDER).search.remaining == 0
    assert build(records[:10], FOLDER).search.remaining == 18


@pytest.mark.parametrize("kind_of_failure", ["lost_worker", "error"])
def test_a_lost_tuning_trial_hides_no_seed_of_its_arm_and_the_next_launch_tries_it_again(kind_of_failure):
    study = kind(tuning=TUNING)
    records = records_of(study.study, flat)
    lost = next(record for record in records if record.phase == "tune")
    failed = replace(lost, status="failed", metrics={}, failure=Failure(kind_of_failure, "its workers died"))
    # What the launch that lost it leaves: the arm is tuned without it, and its seeds are run.
    left = records_of(study.study, flat, {lost.trial_id: failed})
    summary = study.summarise(left, IDENTITY, {})
    assert [trial.status for arm in summary.arms for trial in arm.trials] == ["done"] * 18
    (build,) = study.stages()
    again = build(reopened(left), FOLDER).search
    assert again.remaining == 5  # the trial, and until it has a result all that follows from it in its arm
    assert again.suggest("a")["trial"] == lost.trial_id
    assert sum(arm.tuned for arm in study.planned(reopened(left))) == 8


def test_every_arm_is_reported_and_summarised():
    study = kind()
    records = records_of(study.study, flat)
    assert [plan.arm.name for plan in study.reported(records)] == list(study.study.arm_values)
    summary = study.summarise(records, IDENTITY, {})
    assert [arm.name for arm in summary.arms] == list(study.study.arm_values)
    assert summary.complete
    assert not study.summarise(records[:-1], IDENTITY, {}).complete
    titles = [section.title for section in study.report(summary).document.parts]
    assert titles[:2] == ["Arms", "Effects of the factors"]


def test_the_answers_for_the_tracker_are_effects_interactions_and_comparisons():
    study = kind()
    answers = study.summarise(records_of(study.study, flat), IDENTITY, {}).answers()
    assert {name.partition("/")[0].partition("_")[0] for name in answers} == {"effect", "interaction", "comparison"}
    assert answers["effect/clustering/test/robust_r1:8_255"] == 0
    assert "comparison_p/full/test/clean_r1" in answers


def test_a_plan_has_a_line_per_arm():
    study = kind(tuning=TUNING)
    before = {arm.name: arm for arm in study.planned([])}
    assert list(before) == list(study.study.arm_values)
    assert [(arm.tuning, arm.tuned, arm.trials, arm.done) for arm in before.values()] == [
        *[(2, 0, 3, 0)] * 5,
        (0, 0, 3, 0),
    ]
    after = study.planned(records_of(study.study, flat))
    assert {arm.left for arm in after} == {0}
    assert all(arm.left > 0 for arm in before.values())


def test_a_problem_that_all_arms_share_is_said_without_the_arm():
    assert kind().problems() == []
    shared = kind(base={"data": {"name": "absent"}}).problems()
    assert shared
    assert not [problem for problem in shared if problem.startswith("arm ")]
    lone = kind(arms={"small": {"adapter.rank": 0}}).problems()
    assert len(lone) == 1
    assert lone[0].startswith("arm 'small': adapter.rank")


def test_missing_sets_of_a_suite_are_problems_and_those_there_cost_passes(tmp_path):
    (sentence,) = kind(transfer={"root": str(tmp_path), "sets": ["fare-13"]}).problems()
    assert "lacks 13 of the 13 sets of 'fare-13'" in sentence
    plain, further = (Ablation(ablation(**changes)) for changes in ({}, {"transfer": {"sets": ["fashion-mnist"]}}))
    assert further.problems() == []
    costs = [each.planned([])[0].forwards for each in (plain, further)]
    assert costs[1] - costs[0] == evaluation_forwards(plain.study.protocol, "test")
    report = kind(transfer={"sets": ["fashion-mnist"]}, report=["test/transfer/fashion-mist/clean_r1"]).problems()
    assert report[0].endswith("did you mean 'test/transfer/fashion-mnist/clean_r1'?")
