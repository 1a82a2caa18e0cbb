from __future__ import annotations

from dataclasses import replace

import pytest

from advlora.metrics import Metric
from advlora_platform.analysis.sweeps import good_share, pareto_front, sweep_result
from tests.platform.stories import VAL_ROBUST, accuracies, factory, record, sweep, tell_sweep, trials

pytestmark = pytest.mark.unit


def rising(ranks, slope=0.01):
    """The higher the rank the more robust and the less clean."""
    return {rank: accuracies(0.3 + slope * rank, 0.9 - slope * rank) for rank in ranks}


def stopped(found):
    return replace(found, status="stopped", history=({"epoch": 1, VAL_ROBUST: 0.9},))


def test_the_best_trial_is_finished_and_judged_by_its_last_value():
    study = sweep()
    records = trials(study, rising([2, 4, 8, 16]))
    records[3] = stopped(records[3])
    records[1] = replace(records[1], history=({"epoch": 1, VAL_ROBUST: 0.99},))
    best = tell_sweep(study, records).best
    assert (best.config["adapter"]["rank"], best.arm, best.seeds) == (8, "search", (0,))
    assert best.reason == "trial 3 has the highest final val/robust_r1:8_255 of 3 finished trials: 39.0 % (one seed)"


def test_a_cost_is_minimised():
    study = sweep(search={"objectives": ["cost/seconds"], "trials": 3})
    found = {rank: accuracies(0.5) | {"cost/seconds": 10.0 * rank} for rank in (8, 2, 4)}
    summary = tell_sweep(study, trials(study, found))
    assert summary.best.config["adapter"]["rank"] == 2
    assert "lowest final cost/seconds of 3 finished trials: 20 " in summary.best.reason
    assert summary.sweep.best_so_far == {1: 80.0, 2: 20.0, 3: 20.0}


def test_of_equal_trials_the_cheaper_one_is_best():
    study = sweep()
    found = {4: accuracies(0.5, trainable=400.0), 2: accuracies(0.5, trainable=200.0)}
    assert tell_sweep(study, trials(study, found)).best.config["adapter"]["rank"] == 2


def test_every_trial_is_listed_with_its_status():
    study = sweep()
    results = {**rising([2, 4]), 6: "running", 8: "out_of_memory"}
    records = trials(study, results)
    records[1] = stopped(records[1])
    summary = tell_sweep(study, records)
    assert [(t.number, t.status) for t in summary.sweep.trials] == [
        (1, "done"),
        (2, "stopped"),
        (3, "running"),
        (4, "failed"),
    ]
    assert summary.counts == {"planned": 12, "done": 1, "running": 1, "stopped": 1, "failed": 1, "missing": 8}
    assert summary.failures[0].kind == "out_of_memory"
    assert summary.sweep.best_so_far == {1: pytest.approx(0.33)}
    assert summary.sweep.trials[0].history[0]["epoch"] == 1


def test_a_grid_plans_as_many_trials_as_it_has_points():
    study = sweep(
        parameters={"adapter.rank": {"type": "categorical", "choices": [2, 4, 8]}},
        search={"sampler": "grid", "trials": 50},
    )
    assert tell_sweep(study, []).counts["planned"] == 3


def test_nothing_done_has_no_best():
    summary = tell_sweep(sweep(), [])
    assert (summary.best, summary.sweep.importance, summary.sweep.pareto) == (None, None, ())


def test_the_front_holds_what_nothing_dominates():
    study = sweep()
    found = {
        2: accuracies(0.3, 0.9),
        3: accuracies(0.4, 0.8),
        4: accuracies(0.35, 0.75),  # worse than the second in both
        5: accuracies(0.4, 0.8),  # as good as the second: neither dominates
        6: accuracies(0.4, 0.7),  # as robust as the second, less clean
    }
    sweep_found = tell_sweep(study, trials(study, found)).sweep
    assert sweep_found.pareto == (1, 2, 4)
    assert pareto_front(sweep_found.trials, [Metric.clean("val")]) == (1,)


def test_a_single_objective_has_no_front():
    study = sweep(search={"objectives": ["clean"]})
    assert tell_sweep(study, trials(study, rising([2, 4]))).sweep.pareto is None


def test_the_parameter_that_matters_is_the_important_one():
    study = sweep(search={"trials": 31})
    found = {rank: accuracies(0.9 if rank % 2 else 0.3 + 0.001 * (rank % 7)) for rank in range(2, 33)}
    shares = tell_sweep(study, trials(study, found)).sweep.importance
    assert sum(shares.values()) == pytest.approx(1)
    assert next(iter(shares)) == "adapter.init"
    assert shares["adapter.init"] > 0.7


def test_importance_explains_good_values_of_a_cost_too():
    study = sweep(search={"objectives": ["cost/seconds"], "trials": 31})
    found = {rank: accuracies(0.5) | {"cost/seconds": float(rank % 2)} for rank in range(2, 33)}
    assert next(iter(tell_sweep(study, trials(study, found)).sweep.importance)) == "adapter.init"


def test_few_finished_trials_state_no_importance():
    study = sweep()
    records = trials(study, rising(range(2, 10)))
    assert sweep_result(study, records, {}).importance is not None
    records[0] = stopped(records[0])
    assert sweep_result(study, records, {}).importance is None
    assert [good_share(n) for n in (8, 20, 200)] == [0.5, 0.25, 0.1]


def test_equal_trials_have_an_importance_without_an_error():
    study = sweep(parameters={"adapter.rank": {"type": "int", "low": 2, "high": 32}})
    trials = [factory(study).trial("search", 0, {"adapter.rank": 8}, "search")] * 9
    shares = sweep_result(study, [record(trial, accuracies(0.5)) for trial in trials], {}).importance
    assert list(shares) == ["adapter.rank"]
