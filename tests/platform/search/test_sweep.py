from __future__ import annotations

import json
import pickle

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from advlora_platform.search.sweep import SweepSearcher, belonging, running_seconds
from advlora_platform.study.failures import Failure
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.ledger import reopened
from advlora_platform.study.messages import Failed, Reported, Started
from tests.platform.search.searcher_contract import SearcherContract
from tests.platform.search.small_searches import ROBUST, record, sweep

pytestmark = pytest.mark.unit
POINT = {
    "adapter.rank": 8,
    "adapter.init": "kmeans",
    "adapter.init.clusters": 16,
    "attack.epsilon": "8/255",
}
SAMPLERS = ["tpe", "gp", "cma-es", "nsga-ii", "random"]


class TestContract(SearcherContract):
    searcher = SweepSearcher

    def build(self, factory, records):
        return SweepSearcher(sweep(points=[POINT]), factory, records, self.fresh())


def final(score: float) -> dict:
    return {**Reported(1, {ROBUST: score}, final=True).to_tune(), "training_iteration": 1}


def drain(searcher, factory, score=lambda trial: 0.5):
    trials = []
    while (suggested := searcher.suggest(str(len(trials)))) != searcher.FINISHED:
        trials.append(factory.from_tune(suggested))
        searcher.on_trial_complete(str(len(trials) - 1), final(score(trials[-1])))
    return trials


def journal(folder) -> optuna.Study:
    """The newest study in the file, as `optuna-dashboard` reads it."""
    storage = JournalStorage(JournalFileBackend(str(folder.journal)))
    return optuna.load_study(study_name=optuna.get_all_study_names(storage)[-1], storage=storage)


def states(folder) -> list[str]:
    return [trial.state.name for trial in journal(folder).trials]


@pytest.fixture
def folder(tmp_path):
    return StudyFolder(tmp_path)


def test_known_good_points_come_first_and_the_number_of_trials_is_kept(factory, folder):
    trials = drain(SweepSearcher(sweep(points=[POINT]), factory, [], folder), factory)
    assert len({trial.id for trial in trials}) == 6
    assert trials[0].config.adapter.init.clusters == 16
    assert trials[0].config.attack.epsilon == pytest.approx(8 / 255)


def test_a_serial_search_repeats_with_its_seed(factory, folder):
    def run(name, seed):
        study = sweep(search={"trials": 14, "seed": seed})
        searcher = SweepSearcher(study, factory, [], StudyFolder(folder.path / name))
        return [trial.id for trial in drain(searcher, factory, epsilon)]

    assert run("a", 0) == run("b", 0)
    assert run("a", 0) != run("c", 1)


def epsilon(trial):
    return trial.config.attack.epsilon


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_interrupted_trial_goes_on_and_a_lost_one_is_tried_again(factory, folder, sampler):
    study = sweep(search={"trials": 14, "sampler": sampler})
    first = SweepSearcher(study, factory, [], folder)
    trials = [factory.from_tune(first.suggest(str(number))) for number in range(4)]
    for number in range(2):
        first.on_trial_complete(str(number), final(0.5))
    first.on_trial_complete("2", Failed(Failure("lost_worker", "killed")).to_tune())
    interrupted = record(trials[3], "running", score=None, ended=None)
    lost = record(trials[2], "failed", score=None, failure=Failure("lost_worker", "killed"))
    done = [record(trial) for trial in trials[:2]]
    again = SweepSearcher(study, factory, reopened([*done, lost, interrupted]), folder)
    assert again.remaining == 12
    rest = drain(again, factory)
    assert {trial.id for trial in rest[:2]} == {trials[2].id, trials[3].id}
    assert len({trial.id for trial in (*trials, *rest)}) == 14


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga-ii", "random"])
def test_a_serial_search_that_is_killed_comes_to_the_same_trials(factory, folder, sampler):
    study = sweep(search={"trials": 16, "sampler": sampler})
    whole = drain(SweepSearcher(study, factory, [], folder), factory, epsilon)
    other = StudyFolder(folder.path / "killed")
    records = []
    while len(records) < 16:
        searcher = SweepSearcher(study, factory, records, other)
        for name in "abcde"[: 16 - len(records)]:
            trial = factory.from_tune(searcher.suggest(name))
            searcher.on_trial_complete(name, final(epsilon(trial)))
            records.append(record(trial, score=epsilon(trial)))
        searcher.suggest("killed")  # and nobody hears of it any more
    assert [each.trial_id for each in records] == [trial.id for trial in whole]


def test_what_was_interrupted_goes_on_when_the_budget_is_spent(factory, folder):
    trials = drain(SweepSearcher(sweep(), factory, [], folder), factory)
    spent = record(trials[0], spans=((0.0, 100.0),))
    records = [spent, record(trials[1], "running", score=None)]
    searcher = SweepSearcher(sweep(budget_seconds=50), factory, records, folder)
    assert [trial.id for trial in drain(searcher, factory)] == [trials[1].id]


def test_a_search_with_populations_goes_on_with_them(factory, folder):
    study = sweep(search={"trials": 20, "sampler": "nsga-ii"})
    searcher, records = SweepSearcher(study, factory, [], folder), []
    for name in "abcdefghijklmno":
        trial = factory.from_tune(searcher.suggest(name))
        searcher.on_trial_complete(name, final(epsilon(trial)))
        records.append(record(trial, score=epsilon(trial)))
    assert generations(folder) == [number // 4 for number in range(15)]
    drain(SweepSearcher(study, factory, records, folder), factory, epsilon)
    assert generations(folder) == [number // 4 for number in range(20)]
    folder.journal.unlink()  # the ledger alone gives them back, too
    SweepSearcher(study, factory, records, folder)
    assert generations(folder) == [number // 4 for number in range(15)]


def generations(folder):
    trials = journal(folder).get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    return [trial.system_attrs["NSGAIISampler:generation"] for trial in trials]


def test_a_stopped_trial_is_pruned_at_its_epoch_and_a_lost_one_teaches_nothing(factory, folder):
    searcher = SweepSearcher(sweep(), factory, [], folder)
    for trial in "ab":
        searcher.suggest(trial)
    searcher.on_trial_result("a", {**Started().to_tune(), "training_iteration": 1})
    searcher.on_trial_result("a", {**Reported(1, {ROBUST: 0.9}).to_tune(), "training_iteration": 2})
    searcher.on_trial_result("a", {**Reported(2, {"train/loss": 1.0}).to_tune(), "training_iteration": 3})
    searcher.on_trial_complete("a", {**Reported(3, {ROBUST: 0.8}).to_tune(), "training_iteration": 4})
    searcher.on_trial_complete("b", None, error=True)
    assert states(folder) == ["PRUNED", "FAIL"]
    assert journal(folder).trials[0].intermediate_values == {1: 0.9, 3: 0.8}


def test_epochs_are_counted_alike_whether_a_trial_was_heard_or_read(factory, folder):
    searcher = SweepSearcher(sweep(), factory, [], folder)
    trial = factory.from_tune(searcher.suggest("a"))
    searcher.on_trial_result("a", {**Reported(1, {ROBUST: 0.9}).to_tune(), "training_iteration": 2})
    searcher.on_trial_complete("a", {**Reported(2, {ROBUST: 0.8}).to_tune(), "training_iteration": 3})
    read = StudyFolder(folder.path / "read")
    history = ({"epoch": 1, ROBUST: 0.9}, {"epoch": 2, ROBUST: 0.8})
    SweepSearcher(sweep(), factory, [record(trial, "stopped", score=0.8, history=history)], read)
    (heard,), (known,) = journal(folder).trials, journal(read).trials
    assert (heard.state, heard.value, heard.intermediate_values) == (
        known.state,
        known.value,
        known.intermediate_values,
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_cannot_be_run_is_infeasible(factory, folder, sampler):
    study = sweep(search={"trials": 20, "sampler": sampler})
    searcher = SweepSearcher(study, factory, [], folder)
    for number, score in enumerate([0.5, 0.3, None, 0.4]):
        searcher.suggest(str(number))
        failed = Failed(Failure("out_of_memory", "no")).to_tune()
        searcher.on_trial_complete(str(number), failed if score is None else final(score))
    infeasible = journal(folder).trials[2]
    assert (infeasible.state.name, infeasible.value) == ("COMPLETE", 0.3)
    assert infeasible.constraints == {"fails": 1.0}
    assert infeasible.user_attrs["reason"] == "out_of_memory: no"
    assert journal(folder).best_trial.number == 0
    drain(searcher, factory)  # the sampler copes with it


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cma-es"])
def test_a_sampler_leaves_the_corner_that_fails(factory, folder, sampler):
    """Half of the space does not fit into memory, and its value would be the best."""
    parameters = {"attack.epsilon": {"type": "float", "low": 0.0, "high": 0.1}}
    study = sweep(parameters=parameters, search={"trials": 40, "sampler": sampler})
    searcher = SweepSearcher(study, factory, [], folder)
    drawn = []
    while (suggested := searcher.suggest(str(len(drawn)))) != searcher.FINISHED:
        drawn.append(factory.from_tune(suggested).config.attack.epsilon)
        failed = Failed(Failure("out_of_memory", "no")).to_tune()
        searcher.on_trial_complete(str(len(drawn) - 1), failed if drawn[-1] > 0.05 else final(drawn[-1]))
    assert sum(value > 0.05 for value in drawn[20:]) <= 10  # of 20; TPE alone would draw 16 of them there


def test_several_objectives_learn_from_what_cannot_be_run(factory, folder):
    study = sweep(search={"trials": 8, "objectives": ["robust", "cost/seconds"], "sampler": "nsga-ii"})
    searcher = SweepSearcher(study, factory, [], folder)
    failed = Failed(Failure("diverged", "loss nan")).to_tune()
    results = [{ROBUST: 0.5, "cost/seconds": 9.0}, {ROBUST: 0.3, "cost/seconds": 2.0}]
    ends = [failed, *(Reported(1, metrics, final=True).to_tune() for metrics in results), failed]
    for number, end in enumerate(ends):
        searcher.suggest(str(number))
        searcher.on_trial_complete(str(number), end)
    assert states(folder) == ["PRUNED", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert journal(folder).trials[3].values == [0.3, 9.0]
    assert [trial.number for trial in journal(folder).best_trials] == [1, 2]


def test_a_damaged_journal_is_set_aside_and_written_anew(factory, folder):
    trials = drain(SweepSearcher(sweep(), factory, [], folder), factory)
    with folder.journal.open("ab") as file:
        file.write(b'{"op_code": 4, "work')  # the power failed
    searcher = SweepSearcher(sweep(), factory, [record(trial) for trial in trials[:4]], folder)
    assert searcher.remaining == 2
    assert folder.journal.with_name("optuna-journal.log.damaged").exists()
    assert states(folder) == ["COMPLETE"] * 4


def test_no_trial_waits_for_the_disk_to_flush_the_journal(factory, folder, monkeypatch):
    def refuse(handle):
        raise AssertionError("a flush")

    monkeypatch.setattr("os.fsync", refuse)
    drain(SweepSearcher(sweep(), factory, [], folder), factory)
    assert states(folder) == ["COMPLETE"] * 6
    assert [file.name for file in folder.path.iterdir()] == ["optuna-journal.log"]  # no lock is left


def test_a_journal_that_knows_more_than_the_ledger_is_written_anew(factory, folder):
    trials = drain(SweepSearcher(sweep(), factory, [], folder), factory)
    SweepSearcher(sweep(), factory, [record(trial) for trial in trials[:3]], folder)
    assert states(folder) == ["COMPLETE"] * 3


def test_an_edited_space_gets_a_study_of_its_own(factory, folder):
    drain(SweepSearcher(sweep(), factory, [], folder), factory)
    other = sweep(parameters={"adapter.rank": {"type": "int", "low": 2, "high": 16}})
    SweepSearcher(other, factory, [], folder)
    names = optuna.get_all_study_names(JournalStorage(JournalFileBackend(str(folder.journal))))
    assert len(names) == 2
    assert all(name.startswith("search ") for name in names)
    assert states(folder) == []


def test_a_continued_sweep_knows_what_was_run(factory, folder):
    whole = drain(SweepSearcher(sweep(points=[POINT]), factory, [], folder), factory)
    done = [record(trial) for trial in whole[:2]]
    stopped, diverged = record(whole[2], "stopped"), record(whole[3], "failed", failure=Failure("diverged", ""))
    other = StudyFolder(folder.path / "other")
    searcher = SweepSearcher(sweep(points=[POINT]), factory, [*done, stopped, diverged], other)
    assert (searcher.total, searcher.remaining) == (6, 2)
    assert states(other) == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"]
    assert {trial.id for trial in drain(searcher, factory)}.isdisjoint(trial.id for trial in whole[:4])


def test_no_trial_is_suggested_twice_and_a_small_space_ends_early(factory, folder):
    parameters = {"adapter.init": {"type": "categorical", "choices": ["kmeans", "gaussian"]}}
    study = sweep(parameters=parameters, search={"trials": 50, "sampler": "random"})
    searcher = SweepSearcher(study, factory, [], folder)
    assert searcher.total == 50
    assert len(drain(searcher, factory)) == 2
    assert searcher.remaining == 0


def test_a_grid_sweep_runs_its_grid(factory, folder):
    parameters = {
        "adapter.init": {"type": "categorical", "choices": ["kmeans", "gaussian"]},
        "adapter.rank": {"type": "int", "low": 2, "high": 6, "step": 2},
    }
    study = sweep(parameters=parameters, search={"trials": 6, "sampler": "grid"})
    trials = drain(SweepSearcher(study, factory, [], folder), factory)
    assert len({(c.config.adapter.rank, c.config.adapter.init.kind) for c in trials}) == 6
    rest = SweepSearcher(study, factory, [record(trial) for trial in trials[1:4]], folder)
    assert {trial.id for trial in drain(rest, factory)} == {trial.id for trial in (trials[0], *trials[4:])}


def test_several_objectives_have_a_pareto_front(factory, folder):
    study = sweep(search={"trials": 4, "objectives": ["robust", "cost/seconds"]})
    searcher = SweepSearcher(study, factory, [], folder)
    for number in range(4):
        searcher.suggest(str(number))
        metrics = {ROBUST: number / 10, "cost/seconds": float(number)}
        searcher.on_trial_complete(str(number), Reported(1, metrics, final=True).to_tune())
    assert len(journal(folder).best_trials) == 4
    assert [direction.name for direction in journal(folder).directions] == ["MAXIMIZE", "MINIMIZE"]
    assert journal(folder).metric_names == [ROBUST, "cost/seconds"]


def test_the_budget_counts_running_time_of_all_launches(factory, folder):
    trial = factory.trial(
        "search", 0, {"adapter.rank": 4, "adapter.init": "gaussian", "attack.epsilon": 0.02}, "search"
    )
    spent = record(trial, spans=((0.0, 100.0),))
    assert SweepSearcher(sweep(budget_seconds=50), factory, [spent], folder).suggest("a") == SweepSearcher.FINISHED
    assert SweepSearcher(sweep(budget_seconds=500), factory, [spent], folder).suggest("a") != SweepSearcher.FINISHED


def test_pauses_and_overlaps_do_not_count_as_running(factory):
    trial = factory.trial("search", 0, {}, "search")
    records = [record(trial, spans=((0.0, 10.0), (100.0, 101.0))), record(trial, spans=((5.0, 12.0),))]
    assert running_seconds(records) == 13.0


def test_records_of_another_space_or_protocol_do_not_belong(factory, folder):
    trial = drain(SweepSearcher(sweep(), factory, [], folder), factory)[0]
    stored = record(trial, values=json.loads(json.dumps(trial.values)))
    assert belonging(sweep(), factory, [stored]) == [stored]
    assert belonging(sweep(seed=1), factory, [stored]) == []
    assert belonging(sweep(parameters={"adapter.rank": {"type": "int", "low": 2, "high": 16}}), factory, [stored]) == []


def test_tune_may_pickle_it(factory, folder):
    pickle.dumps(SweepSearcher(sweep(), factory, [], folder))
