"""Fair arms: nuisance parameters retuned in every arm, held at those of the reference, or both side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.text import Text

from advlora_platform.kinds import Ablation
from advlora_platform.report import ablation_report, to_terminal
from advlora_platform.search.ablation import PlanSearcher
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.messages import Reported
from tests.builders import VAL_ROBUST
from tests.platform.stories import IDENTITY, ablation, accuracies, factory, record, tell

pytestmark = pytest.mark.unit
RATE = "optimiser.learning_rate"
GRID = {"parameters": {RATE: {"type": "categorical", "choices": [1e-3, 3e-3, 1e-2]}}, "trials": 3, "sampler": "grid"}
BEST = {"LoRA": 3e-3, "full": 1e-2}
"""What suits each arm; the others like 1e-3."""


def study(mode="retuned"):
    return ablation(tuning={**GRID, "mode": mode})


def score(trial) -> float:
    likes = BEST.get(trial.arm.removesuffix(" (held)"), 1e-3)
    return 0.5 - abs(trial.config.optimiser.learning_rate - likes) + 0.002 * (trial.seed % 5)


def run(mode):
    """Runs a study from nothing; returns its kind, its records and how many trials were announced."""
    return go_on(study(mode), [])


def go_on(study, known):
    """Runs a study as Tune does, one trial at a time; returns its kind, all records and the announced total."""
    kind = Ablation(study)
    kind.trials = factory(kind.study)
    (build,) = kind.stages()
    search = build(known, StudyFolder(Path("unused"))).search
    assert isinstance(search, PlanSearcher)
    records, total = list(known), search.total
    while (config := search.suggest(str(len(records)))) != search.FINISHED:
        trial = kind.trials.from_tune(config)
        metrics = accuracies(score(trial))
        search.on_trial_complete(str(len(records)), Reported(1, metrics, True).to_tune())
        records.append(record(trial, metrics))
    assert search.remaining == 0
    return kind, records, total


def rates(summary, arms):
    return {arm.name: (arm.tuned or {}).get(RATE) for arm in arms}


def test_held_values_are_those_that_the_reference_was_tuned_for():
    kind, records, total = run("held")
    assert len(records) == total == 3 + 6 * 3
    assert {item.arm for item in records if item.phase == "tune"} == {"LoRA"}
    summary = kind.summarise(records, IDENTITY, {})
    assert rates(summary, summary.arms) == {**dict.fromkeys(kind.study.arm_values, 3e-3), "pretrained": None}
    assert summary.complete
    assert summary.held == ()


def test_both_runs_every_arm_twice_and_shows_them_side_by_side():
    kind, records, total = run("both")
    assert total == 5 * 3 + 6 * 3 + 5 * 3
    assert len(records) == total - 3  # the pretrained model is the same either way
    summary = kind.summarise(records, IDENTITY, {})
    assert rates(summary, summary.arms)["full"] == 1e-2
    assert rates(summary, summary.held) == {
        **{f"{name} (held)": 3e-3 for name in ("clustering", "adaptive", "AdvLoRA", "full")},
        "pretrained (held)": None,
    }
    assert summary.complete
    assert len(summary.required) == 6 * 3 + 5 * 3
    part = next(p for p in ablation_report(summary).document.parts if p.title.startswith("Nuisance"))
    rows = {row[0]: row for row in part.table.rows}
    assert rows["full"][1].startswith("50.2")
    assert rows["full"][4].startswith("49.5")
    assert "comparison/full (held)/" + summary.metrics.test_robust in summary.verdicts()


def test_a_missing_held_trial_makes_a_study_incomplete():
    kind, records, _ = run("both")
    lost = next(item for item in reversed(records) if item.arm == "full (held)")
    summary = kind.summarise([item for item in records if item is not lost], IDENTITY, {})
    assert not summary.complete
    assert any("full (held): seed" in finding.text for finding in ablation_report(summary).document.findings)


def test_choices_at_the_edge_are_said_and_the_plan_offers_a_wider_grid():
    kind, records, _ = run("retuned")
    summary = kind.summarise(records, IDENTITY, {})
    assert summary.edges["full"] == {RATE: "largest"}
    assert summary.edges["AdvLoRA"] == {RATE: "smallest"}
    assert "LoRA" not in summary.edges
    text = Text.from_markup(to_terminal(ablation_report(summary).document, 80)).plain
    assert f"{RATE} is the largest of its range in full;" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80
    assert kind.wider(records) == {
        "parameters": {RATE: {"type": "categorical", "choices": [0.00033, 1e-3, 3e-3, 1e-2, 0.033]}},
        "trials": 5,
    }
    assert Ablation(ablation(tuning={**GRID, **kind.wider(records)})).problems() == []


def test_a_wider_grid_runs_the_new_points_alone():
    kind, records, _ = run("retuned")
    _, after, total = go_on(ablation(tuning={**GRID, **kind.wider(records)}), records)
    assert total == 5 * 5 + 6 * 3
    new = [item for item in after if item not in records]
    assert {item.phase for item in new} == {"tune"}  # no arm does better at the new points, so no seed is run again
    assert {item.config["optimiser"]["learning_rate"] for item in new} == {0.00033, 0.033}
    assert len(new) == 5 * 2


def test_no_range_is_offered_where_no_choice_lies_at_an_edge_or_nothing_is_tuned():
    kind = Ablation(ablation())
    kind.trials = factory(kind.study)
    assert kind.wider([]) == {}
    assert tell(ablation(), lambda arm, seed: accuracies(0.5)).edges == {}


def test_values_cannot_be_held_where_the_reference_is_not_tuned():
    held = ablation(arms={"pretrained": {"adapter.kind": "none"}, "a": {}}, factors={}, tuning={**GRID, "mode": "held"})
    assert any("tuning.mode: 'held'" in problem for problem in Ablation(held).problems())
    assert VAL_ROBUST in str(held.objectives()[0])
