from __future__ import annotations

import pytest

from advlora_platform.search.agenda import plan_arms, scores_of
from tests.platform.search.conftest import ROBUST, ablation, record

pytestmark = pytest.mark.unit


def settle(study, factory, score):
    """Runs the agenda to its end, with `score(cell)` as the result of each cell."""
    scores: dict[str, float | None] = {}
    order = []
    while True:
        plans = plan_arms(study, factory, scores)
        left = [cell for plan in plans for cell in (*plan.tuning, *plan.cells) if cell.id not in scores]
        if not left:
            return plans, order
        order.append(left[0])
        scores[left[0].id] = score(left[0])


def rate(cell) -> float:
    return cell.config.optimiser.learning_rate


def test_every_arm_is_tuned_with_the_same_budget_then_run_with_every_seed(factory):
    plans, order = settle(ablation(), factory, rate)
    by_arm = {plan.arm.name: plan for plan in plans}
    assert [len(plan.tuning) for plan in plans] == [3, 3, 3, 0]
    assert {cell.seed for plan in plans for cell in plan.tuning} == {1000}
    for plan in plans:
        assert [cell.seed for cell in plan.cells] == [0, 1]
        assert all(cell.test for cell in plan.cells)
        assert not any(cell.test for cell in plan.tuning)
    best = max(map(rate, by_arm["full"].tuning))
    assert by_arm["full"].tuned == {"optimiser.learning_rate": best}
    assert {rate(cell) for cell in by_arm["full"].cells} == {best}
    assert len(order) == 3 * 3 + 4 * 2


def test_arms_are_compared_at_the_same_first_suggestions(factory):
    plans, _ = settle(ablation(), factory, rate)
    tried = [[rate(cell) for cell in plan.tuning] for plan in plans[:3]]
    assert tried[0] == tried[1] == tried[2]


def test_the_seeds_of_an_arm_wait_for_its_tuning(factory):
    plan = plan_arms(ablation(), factory, {})[0]
    assert (len(plan.tuning), plan.tuned, plan.cells, plan.budget) == (1, None, (), 3)


def test_what_an_arm_sets_itself_is_not_tuned(factory):
    fixed = {"full": {"adapter.kind": "full", "optimiser.learning_rate": 1e-3}}
    plan = plan_arms(ablation(arms=fixed), factory, {})[-1]
    assert (plan.tuning, plan.tuned) == ((), {})
    assert rate(plan.cells[0]) == 1e-3


def test_failed_tuning_trials_never_win(factory):
    plans, _ = settle(ablation(), factory, lambda cell: None if rate(cell) > 1e-3 else rate(cell))
    assert all(plan.tuned["optimiser.learning_rate"] <= 1e-3 for plan in plans[:3])
    plans, _ = settle(ablation(), factory, lambda cell: None)
    assert [plan.tuned for plan in plans] == [{}] * 4


def test_a_grid_tries_its_points_in_order(factory):
    choices = [1e-3, 3e-3, 1e-2]
    tuning = {
        "parameters": {"optimiser.learning_rate": {"type": "categorical", "choices": choices}},
        "trials": 3,
        "sampler": "grid",
    }
    plans, _ = settle(ablation(tuning=tuning), factory, rate)
    assert [rate(cell) for cell in plans[0].tuning] == choices


def test_scores_come_from_settled_records_only(factory):
    cells = [factory.cell("a", seed, {}, "ablate") for seed in range(4)]
    records = [
        record(cells[0], score=0.7),
        record(cells[1], status="running"),
        record(cells[2], status="failed"),
        record(cells[3], metrics={ROBUST: 0.1}),
    ]
    assert scores_of(ablation(), records) == {cells[0].id: 0.7, cells[3].id: 0.1}
