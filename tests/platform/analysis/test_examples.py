"""Studies whose outcomes are known example by example, from the study folder to the report."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from advlora_platform.analysis import summarise_ablation
from advlora_platform.report import ablation_report
from advlora_platform.search.plan import plan_arms, scores_of
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.outcomes import Shelf, save_outcomes
from tests.platform.stories import IDENTITY, ROBUST, ablation, accuracies, factory, records_of

pytestmark = pytest.mark.unit

ARMS = {"factors": {}, "arms": {"LoRA": {}, "wide": {"adapter.rank": 16}, "full": {"adapter.kind": "full"}}}
SEEDS = list(range(6))


def drawn(examples=400):
    """By arm and seed: images differ much, seeds little, and `full` is right more often."""
    chance = np.random.default_rng(0)
    ease = chance.standard_normal(examples)
    bonus = {"LoRA": 0.0, "wide": 0.0, "full": 0.6}
    return {
        (arm, seed): ease + bonus[arm] + 0.4 * chance.standard_normal(examples) > 0 for arm in bonus for seed in SEEDS
    }


def told(folder, right, keep=lambda arm, seed: True, **changes):
    study = ablation(**ARMS, seeds=SEEDS, **changes)
    records = records_of(study, lambda arm, seed: accuracies(float(right[arm, seed].mean())))
    plans, opened = plan_arms(study, factory(study), scores_of(study, records)), StudyFolder(folder)
    for plan in plans:
        for trial in plan.trials:
            if keep(plan.arm.name, trial.seed):
                save_outcomes(opened.trial(trial.id), {ROBUST: torch.from_numpy(right[plan.arm.name, trial.seed])})
    return summarise_ablation(study, plans, records, IDENTITY, {}, Shelf(opened))


def compared(summary):
    return {answer.name: answer for answer in summary.comparisons if answer.metric == ROBUST}


def sentences(summary):
    return [finding.text for finding in ablation_report(summary).document.findings]


def test_intervals_cover_examples_and_seeds_where_the_outcomes_are_known(tmp_path):
    right = drawn()
    known, alone = told(tmp_path / "known", right), told(tmp_path / "alone", right, keep=lambda arm, seed: False)
    for name, answer in compared(known).items():
        before = compared(alone)[name]
        assert answer.estimate.mean == pytest.approx(before.estimate.mean)
        assert answer.differences == pytest.approx(before.differences)
        assert answer.estimate.variance.examples == 400
        assert before.estimate.variance.examples == 0
    assert compared(known)["full"].outcome == "better"
    assert compared(known)["wide"].estimate.half_width > compared(alone)["wide"].estimate.half_width
    assert (known.examples, alone.examples) == (400, 0)
    assert "Intervals cover the choice of seeds and of 400 test images." in sentences(known)
    assert any("seeds alone, not of test images" in text for text in sentences(alone))


def test_a_single_trial_without_outcomes_makes_its_comparisons_cover_seeds_alone(tmp_path):
    summary = told(tmp_path, drawn(), keep=lambda arm, seed: (arm, seed) != ("wide", 2))
    covered = {name: answer.estimate.variance.examples for name, answer in compared(summary).items()}
    assert covered == {"wide": 0, "full": 400}
    assert summary.examples == 0


def test_a_study_may_take_its_test_set_for_all_that_matters(tmp_path):
    right = drawn()
    sample, population = told(tmp_path / "a", right), told(tmp_path / "b", right, test_set="population")
    assert {answer.estimate.variance.examples for answer in compared(population).values()} == {0}
    half = {name: answer.estimate.half_width for name, answer in compared(population).items()}
    assert all(half[name] < answer.estimate.half_width for name, answer in compared(sample).items())
    assert any("takes its test images for all that matter" in text for text in sentences(population))


def test_the_report_splits_the_variance_and_says_what_to_add(tmp_path):
    summary = told(tmp_path, drawn())
    parts = {part.title: part for part in ablation_report(summary).document.parts}
    table = parts["Where the uncertainty comes from"].table
    shares = {row[0]: [float(cell) for cell in row[2:5]] for row in table.rows}
    assert all(sum(row) == pytest.approx(100, abs=0.2) for row in shares.values())
    assert shares["full"][1] > 50  # another image matters more than another seed
    wide = next(row for row in table.rows if row[0] == "wide")
    assert "–" not in wide[5:]
    more = compared(summary)["wide"].more
    assert wide[5:] == tuple(str(number) if number else "not enough" for number in (more.seeds, more.images))
    assert compared(summary)["wide"].verdict.startswith("not resolved: about ")
    without = told(tmp_path / "none", drawn(), keep=lambda arm, seed: False)
    assert "Where the uncertainty comes from" not in [part.title for part in ablation_report(without).document.parts]


def test_one_outcome_goes_to_programs_and_to_the_tracker(tmp_path):
    summary = told(tmp_path, drawn())
    plain = {(each["name"], each["metric"]): each for each in summary.to_json()["comparisons"]}
    assert plain["full", ROBUST]["outcome"] == "better"
    assert plain["wide", ROBUST]["more"]["images"] == compared(summary)["wide"].more.images
    assert summary.verdicts()[f"comparison/full/{ROBUST}"] == "better"
    assert summary.verdicts()[f"comparison/wide/{ROBUST}"] == "unresolved"
