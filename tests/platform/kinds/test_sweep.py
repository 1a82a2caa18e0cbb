from __future__ import annotations

import pytest

from advlora_platform.kinds import Sweep
from advlora_platform.study.folder import StudyFolder
from tests.platform.stories import IDENTITY, accuracies, confirmations, factory, sweep, trials

pytestmark = pytest.mark.unit

CONFIRM = {"protocol": {"attacks": [{"kind": "pgd", "steps": 50}]}, "top": 2, "seeds": [7, 8]}
SEARCHED = {2: accuracies(0.3), 4: accuracies(0.4), 8: accuracies(0.5)}


def kind(**changes) -> Sweep:
    made = Sweep(sweep(**{"search": {"trials": 3}, **changes}))
    made.trials = factory(made.study)
    return made


def test_without_a_confirmation_there_is_one_stage(tmp_path):
    study = kind(base={"optimiser": {"epochs": 4}}, search={"trials": 3, "objectives": ["robust"]})
    (build,) = study.stages()
    folder = StudyFolder(tmp_path)
    stage = build([], folder)
    assert (stage.search.total, stage.search.remaining) == (3, 3)
    assert stage.scheduler is not None
    assert build(trials(study.study, SEARCHED), folder).search.remaining == 0
    assert kind(search={"scheduler": {"kind": "none"}}).stages()[0]([], folder).scheduler is None


def test_the_second_stage_confirms_the_finalists_of_the_first(tmp_path):
    study = kind(confirm=CONFIRM)
    search, confirmation = study.stages()
    folder = StudyFolder(tmp_path)
    assert confirmation([], folder).search.remaining == 0
    records = trials(study.study, SEARCHED)
    assert search(records, folder).search.remaining == 0
    assert (confirmation(records, folder).search.total, confirmation(records, folder).scheduler) == (4, None)
    done = confirmations(study.study, records, lambda rank, seed: accuracies(0.2) if seed == 7 else None)
    assert confirmation([*records, *done], folder).search.remaining == 2


def test_only_finalists_are_reported():
    study = kind(confirm=CONFIRM)
    records = trials(study.study, SEARCHED)
    assert [plan.arm.values["adapter.rank"] for plan in study.reported(records)] == [8, 4]
    assert kind().reported(trials(kind().study, SEARCHED)) == []


def test_records_of_an_earlier_space_are_left_out_of_the_summary():
    earlier = trials(sweep(base={"optimiser": {"epochs": 9}}), {16: accuracies(0.9)})
    study = kind()
    own = trials(study.study, SEARCHED)
    summary = study.summarise([*earlier, *own], IDENTITY, {})
    assert [trial.trial_id for trial in summary.sweep.trials] == [record.trial_id for record in own]
    assert summary.best.config["adapter"]["rank"] == 8
    assert summary.complete
    assert [section.title for section in study.report(summary).document.parts] == ["Trials", "Importance"]


def test_a_sweep_may_end_early_and_be_complete():
    study = kind()
    summary = study.summarise(trials(study.study, {2: accuracies(0.3)}), IDENTITY, {})
    assert summary.counts["missing"] == 2
    assert summary.complete
    assert not study.summarise(trials(study.study, {2: "running"}), IDENTITY, {}).complete


def test_the_answers_for_the_tracker_are_the_importance_of_parameters():
    study = kind(search={"trials": 31})
    found = {rank: accuracies(0.9 if rank % 2 else 0.3) for rank in range(2, 33)}
    answers = study.summarise(trials(study.study, found), IDENTITY, {}).answers()
    assert max(answers, key=answers.get) == "importance/adapter.init"
    assert study.summarise([], IDENTITY, {}).answers() == {}


def test_a_plan_has_a_line_per_stage():
    study = kind(confirm=CONFIRM)
    records = trials(study.study, SEARCHED)
    done = confirmations(study.study, records, lambda rank, seed: accuracies(0.2) if seed == 7 else None)
    found = [(arm.name, arm.trials, arm.done) for arm in study.planned([*records, *done])]
    assert found == [("search", 3, 3), ("confirmation", 4, 2)]
    search, confirmation = study.planned([])
    assert confirmation.forwards > search.forwards


def test_every_evaluation_must_fit_the_data():
    attacks = [{"kind": "set-level", "steps": 2}]
    cheap = kind(protocol={"attacks": attacks}).problems()
    strong = kind(confirm={**CONFIRM, "protocol": {"attacks": attacks}}).problems()
    assert kind(confirm=CONFIRM).problems() == []
    assert cheap
    assert strong == [f"confirm.{problem}" for problem in cheap]


def test_several_objectives_are_not_stopped_by_one():
    several = {"trials": 3, "objectives": ["robust", "clean"]}
    assert kind(search=several).study.search.scheduler.kind == "none"
    assert kind(search={"trials": 3}).study.search.scheduler.kind == "asha"
    (problem,) = kind(search={**several, "scheduler": {"kind": "asha"}}).problems()
    assert problem == (
        "search.scheduler.kind: 'asha' stops trials by one objective, and there are 2; set search.scheduler.kind=none"
    )


def test_an_objective_counts_once():
    assert kind(search={"trials": 3, "objectives": ["robust", "robust"]}).problems() == [
        "search.objectives: ['robust', 'robust'] names one twice"
    ]
