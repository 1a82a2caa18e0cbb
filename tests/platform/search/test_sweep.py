from __future__ import annotations

import json
import pickle

import optuna
import pytest

from advlora_platform.search.sweep import DefineByRun, SweepSearcher, belonging, running_seconds
from advlora_platform.study.failures import Failure
from advlora_platform.study.messages import Failed, Reported
from tests.platform.search.searcher_contract import SearcherContract
from tests.platform.search.small_searches import ROBUST, record, space, sweep

pytestmark = pytest.mark.unit
POINT = {
    "adapter.rank": 8,
    "adapter.init": "kmeans",
    "adapter.init.clusters": 16,
    "attack.epsilon": "8/255",
}


class TestContract(SearcherContract):
    searcher = SweepSearcher

    def build(self, factory, records):
        return SweepSearcher(sweep(points=[POINT]), factory, records)


def final(score: float) -> dict:
    return {**Reported(1, {ROBUST: score}, final=True).to_tune(), "training_iteration": 1}


def drain(searcher, factory, score=lambda trial: 0.5):
    trials = []
    while (suggested := searcher.suggest(str(len(trials)))) != searcher.FINISHED:
        trials.append(factory.from_tune(suggested))
        searcher.on_trial_complete(str(len(trials) - 1), final(score(trials[-1])))
    return trials


def states(searcher) -> list[str]:
    return [trial.state.name for trial in searcher._ot_study.trials]


def test_known_good_points_come_first_and_the_number_of_trials_is_kept(factory):
    trials = drain(SweepSearcher(sweep(points=[POINT]), factory, []), factory)
    assert len({trial.id for trial in trials}) == 6
    assert trials[0].config.adapter.init.clusters == 16
    assert trials[0].config.attack.epsilon == pytest.approx(8 / 255)


def test_a_serial_search_repeats_with_its_seed(factory):
    def run(seed):
        study = sweep(search={"trials": 14, "seed": seed})
        return [
            trial.id for trial in drain(SweepSearcher(study, factory, []), factory, lambda c: c.config.attack.epsilon)
        ]

    assert run(0) == run(0)
    assert run(0) != run(1)


def test_a_stopped_trial_is_pruned_and_a_failed_one_fails(factory):
    searcher = SweepSearcher(sweep(), factory, [])
    for trial in "abc":
        searcher.suggest(trial)
    searcher.on_trial_result("a", {**Reported(1, {ROBUST: 0.9}).to_tune(), "training_iteration": 1})
    searcher.on_trial_result("a", {**Reported(2, {"train/loss": 1.0}).to_tune(), "training_iteration": 2})
    searcher.on_trial_complete("a", Reported(1, {ROBUST: 0.9}).to_tune())
    searcher.on_trial_complete("b", Failed(Failure("diverged", "loss nan")).to_tune())
    searcher.on_trial_complete("c", None, error=True)
    assert states(searcher) == ["PRUNED", "FAIL", "FAIL"]
    assert searcher._ot_study.trials[0].intermediate_values == {1: 0.9}


def test_a_continued_sweep_knows_what_was_run(factory):
    whole = drain(SweepSearcher(sweep(points=[POINT]), factory, []), factory)
    done = [record(trial) for trial in whole[:2]]
    stopped, diverged = record(whole[2], "stopped"), record(whole[3], "failed", failure=Failure("diverged", ""))
    searcher = SweepSearcher(sweep(points=[POINT]), factory, [*done, stopped, diverged])
    assert (searcher.total, searcher.remaining) == (6, 2)
    assert states(searcher) == ["COMPLETE", "COMPLETE", "PRUNED", "FAIL"]
    assert {trial.id for trial in drain(searcher, factory)}.isdisjoint(trial.id for trial in whole[:4])


def test_no_trial_is_suggested_twice_and_a_small_space_ends_early(factory):
    parameters = {"adapter.init": {"type": "categorical", "choices": ["kmeans", "gaussian"]}}
    study = sweep(parameters=parameters, search={"trials": 50, "sampler": "random"})
    searcher = SweepSearcher(study, factory, [])
    assert searcher.total == 50
    assert len(drain(searcher, factory)) == 2
    assert searcher.remaining == 0


def test_a_grid_sweep_runs_its_grid(factory):
    parameters = {
        "adapter.init": {"type": "categorical", "choices": ["kmeans", "gaussian"]},
        "adapter.rank": {"type": "int", "low": 2, "high": 6, "step": 2},
    }
    study = sweep(parameters=parameters, search={"trials": 6, "sampler": "grid"})
    trials = drain(SweepSearcher(study, factory, []), factory)
    assert len({(c.config.adapter.rank, c.config.adapter.init.kind) for c in trials}) == 6
    rest = SweepSearcher(study, factory, [record(trial) for trial in trials[1:4]])
    assert {trial.id for trial in drain(rest, factory)} == {trial.id for trial in (trials[0], *trials[4:])}


def test_several_objectives_have_a_pareto_front(factory):
    study = sweep(search={"trials": 4, "objectives": ["robust", "cost/seconds"]})
    searcher = SweepSearcher(study, factory, [])
    assert searcher.mode == ["max", "min"]
    for number in range(4):
        searcher.suggest(str(number))
        metrics = {ROBUST: number / 10, "cost/seconds": float(number)}
        searcher.on_trial_complete(str(number), Reported(1, metrics, final=True).to_tune())
    assert len(searcher._ot_study.best_trials) == 4
    assert searcher._ot_study.directions == [
        optuna.study.StudyDirection.MAXIMIZE,
        optuna.study.StudyDirection.MINIMIZE,
    ]


def test_the_budget_counts_running_time_of_all_launches(factory):
    trial = factory.trial(
        "search", 0, {"adapter.rank": 4, "adapter.init": "gaussian", "attack.epsilon": 0.02}, "search"
    )
    spent = record(trial, began=0.0, ended=100.0)
    assert SweepSearcher(sweep(budget_seconds=50), factory, [spent]).suggest("a") == SweepSearcher.FINISHED
    assert SweepSearcher(sweep(budget_seconds=500), factory, [spent]).suggest("a") != SweepSearcher.FINISHED


def test_pauses_and_overlaps_do_not_count_as_running(factory):
    trial = factory.trial("search", 0, {}, "search")
    spans = [(0.0, 10.0), (5.0, 12.0), (100.0, 101.0)]
    assert running_seconds(record(trial, began=a, ended=b) for a, b in spans) == 13.0


def test_records_of_another_space_or_protocol_do_not_belong(factory):
    trial = drain(SweepSearcher(sweep(), factory, []), factory)[0]
    stored = record(trial, values=json.loads(json.dumps(trial.values)))
    assert belonging(sweep(), factory, [stored]) == [stored]
    assert belonging(sweep(seed=1), factory, [stored]) == []
    assert belonging(sweep(parameters={"adapter.rank": {"type": "int", "low": 2, "high": 16}}), factory, [stored]) == []


def test_the_space_can_be_pickled():
    assert pickle.loads(pickle.dumps(DefineByRun(space()))) == DefineByRun(space())
