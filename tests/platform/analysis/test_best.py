"""Which configuration is recommended: by direction, and under constraints."""

from __future__ import annotations

import pytest

from advlora_platform.report import sweep_report
from tests.platform.stories import ablation, accuracies, confirmations, sweep, tell, tell_sweep, trials

pytestmark = pytest.mark.unit
CONFIRM = {"protocol": {"attacks": [{"kind": "pgd", "steps": 50}]}, "top": 3, "seeds": [7, 8]}
SMALL = "params/trainable_fraction <= 0.1"


def sized(rank):
    return accuracies(0.3 + 0.01 * rank, trainable=100.0 * rank)


def test_a_minimised_first_objective_recommends_the_smallest_finalist():
    study = sweep(confirm=CONFIRM, search={"trials": 12, "objectives": ["params/trainable", "robust"]})
    searched = trials(study, {rank: sized(rank) for rank in (2, 4, 8, 16)})
    summary = tell_sweep(study, [*searched, *confirmations(study, searched, lambda rank, seed: sized(rank))])
    assert summary.best.config["adapter"]["rank"] == 2
    assert "has the lowest mean params/trainable of 4 complete arms: 200 over 2 seeds" in summary.best.reason
    assert "%" not in summary.best.reason.partition("(95 %")[0]
    table = next(part.table for part in sweep_report(summary).document.parts if part.title == "Confirmation")
    assert table.rows[0][1:3] == ("200", "200 (200 to 200)")
    assert summary.confirmation.optimism.mean == 0


def test_what_a_search_promised_too_little_of_a_cost_is_optimism():
    study = sweep(confirm=CONFIRM, search={"trials": 12, "objectives": ["cost/seconds", "robust"]})
    searched = trials(study, {rank: sized(rank) for rank in (2, 4, 8)})
    slow = confirmations(study, searched, lambda rank, seed: {**sized(rank), "cost/seconds": 23.0})
    summary = tell_sweep(study, [*searched, *slow])
    assert summary.confirmation.optimism.mean == 3.0
    texts = [finding.text for finding in sweep_report(summary).document.findings]
    assert "Optimism: the search promised +3 (+3 to +3) less for its leader than was confirmed." in texts


def test_constraints_of_a_study_decide_what_is_recommended_and_confirmed():
    large = lambda arm, seed: {  # noqa: E731
        **accuracies(0.7 if arm == "full" else 0.5),
        "params/trainable_fraction": 1.0 if arm == "full" else 0.03,
    }
    assert tell(ablation(), large).best.arm == "full"
    best = tell(ablation(constraints=[SMALL]), large).best
    assert best.arm != "full"
    assert f"of 4 complete arms, with {SMALL}" in best.reason
    study = sweep(confirm=CONFIRM, search={"trials": 12}, constraints=["params/trainable <= 800"])
    searched = trials(study, {rank: sized(rank) for rank in (2, 4, 8, 16)})
    summary = tell_sweep(study, searched)
    assert [arm.values["adapter.rank"] for arm in summary.arms] == [8, 4, 2]
    alone = sweep(search={"trials": 12}, constraints=["params/trainable <= 800"])
    assert tell_sweep(alone, trials(alone, {r: sized(r) for r in (8, 16)})).best.config["adapter"]["rank"] == 8
