from __future__ import annotations

import pytest

from advlora_platform.search.plan import plan_arms, scores_of
from tests.platform.search.small_searches import ablation, record

pytestmark = pytest.mark.unit


def settle(study, factory, score):
    """Runs the agenda to its end, with `score(trial)` as the result of each trial."""
    scores: dict[str, float | None] = {}
    order = []
    while True:
        plans = plan_arms(study, factory, scores)
        left = [trial for plan in plans for trial in (*plan.tuning, *plan.trials) if trial.id not in scores]
        if not left:
            return plans, order
        order.append(left[0])
        scores[left[0].id] = score(left[0])


def rate(trial) -> float:
    return trial.config.optimiser.learning_rate


def test_every_arm_is_tuned_with_the_same_budget_then_run_with_every_seed(factory):
    plans, order = settle(ablation(), factory, rate)
    by_arm = {plan.arm.name: plan for plan in plans}
    assert [len(plan.tuning) for plan in plans] == [3, 3, 3, 0]
    assert {trial.seed for plan in plans for trial in plan.tuning} == {1000}
    for plan in plans:
        assert [trial.seed for trial in plan.trials] == [0, 1]
        assert all(trial.test for trial in plan.trials)
        assert not any(trial.test for trial in plan.tuning)
    best = max(map(rate, by_arm["full"].tuning))
    assert by_arm["full"].tuned == {"optimiser.learning_rate": best}
    assert {rate(trial) for trial in by_arm["full"].trials} == {best}
    assert len(order) == 3 * 3 + 4 * 2


def test_arms_are_compared_at_the_same_first_suggestions(factory):
    plans, _ = settle(ablation(), factory, rate)
    tried = [[rate(trial) for trial in plan.tuning] for plan in plans[:3]]
    assert tried[0] == tried[1] == tried[2]


def test_the_seeds_of_an_arm_wait_for_its_tuning(factory):
    plan = plan_arms(ablation(), factory, {})[0]
    assert (len(plan.tuning), plan.tuned, plan.trials, plan.budget) == (1, None, (), 3)


def test_what_an_arm_sets_itself_is_not_tuned(factory):
    fixed = {"full": {"adapter.kind": "full", "optimiser.learning_rate": 1e-3}}
    plan = plan_arms(ablation(arms=fixed), factory, {})[-1]
    assert (plan.tuning, plan.tuned) == ((), {})
    assert rate(plan.trials[0]) == 1e-3


TUNED = {
    "parameters": {
        "optimiser.learning_rate": {"type": "categorical", "choices": [1e-3, 1e-2]},
        "adapter.rank": {"type": "categorical", "choices": [2, 4]},
    },
    "trials": 4,
    "sampler": "grid",
}


def test_what_an_arm_does_not_take_is_not_tuned_in_it(factory):
    plans, _ = settle(ablation(tuning=TUNED), factory, rate)
    budgets = {plan.arm.name: (plan.budget, len(plan.tuning)) for plan in plans}
    assert budgets == {"all off": (4, 4), "all on": (4, 4), "full": (2, 2), "pretrained": (0, 0)}
    by_arm = {plan.arm.name: plan.tuned for plan in plans}
    assert by_arm["full"] == {"optimiser.learning_rate": 1e-2}
    assert by_arm["all on"].keys() == {"optimiser.learning_rate", "adapter.rank"}


def test_an_arm_that_says_a_method_in_short_fixes_it(factory):
    tuning = {"parameters": {"adapter.init": {"type": "categorical", "choices": ["kmeans", "pissa"]}}, "trials": 2}
    study = ablation(tuning=tuning, factors={}, arms={"fixed": {"adapter.init": "milora"}, "free": {}})
    fixed, free = plan_arms(study, factory, {})
    assert (fixed.tuning, {trial.config.adapter.init.kind for trial in fixed.trials}) == ((), {"milora"})
    assert free.tuning[0].config.adapter.init.kind in ("kmeans", "pissa")


def test_failed_tuning_trials_never_win(factory):
    plans, _ = settle(ablation(), factory, lambda trial: None if rate(trial) > 1e-3 else rate(trial))
    assert all(plan.tuned["optimiser.learning_rate"] <= 1e-3 for plan in plans[:3])
    plans, _ = settle(ablation(), factory, lambda trial: None)
    assert [plan.tuned for plan in plans] == [{}] * 4


def test_a_grid_tries_its_points_in_order(factory):
    choices = [1e-3, 3e-3, 1e-2]
    tuning = {
        "parameters": {"optimiser.learning_rate": {"type": "categorical", "choices": choices}},
        "trials": 3,
        "sampler": "grid",
    }
    plans, _ = settle(ablation(tuning=tuning), factory, rate)
    assert [rate(trial) for trial in plans[0].tuning] == choices


def test_scores_come_from_settled_records_only(factory):
    trials = [factory.trial("a", seed, {}, "ablate") for seed in range(4)]
    records = [
        record(trials[0], score=0.7),
        record(trials[1], status="running"),
        record(trials[2], status="failed"),
        record(trials[3], score=0.1),
    ]
    assert scores_of(ablation(), records) == {trials[0].id: 0.7, trials[2].id: None, trials[3].id: 0.1}
