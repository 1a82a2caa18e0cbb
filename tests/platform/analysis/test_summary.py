from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from advlora_platform.analysis import summarise_ablation
from advlora_platform.search.plan import plan_arms, scores_of
from tests.platform.stories import (
    CLEAN,
    IDENTITY,
    ROBUST,
    VAL_ROBUST,
    ablation,
    accuracies,
    factory,
    record,
    records_of,
    tell,
)

pytestmark = pytest.mark.unit


def flat(arm, seed):
    return accuracies(0.5 + 0.01 * seed)


def arm_of(summary, name):
    return next(arm for arm in summary.arms if arm.name == name)


def test_every_planned_trial_has_its_row_whatever_became_of_it():
    def story(arm, seed):
        special = {("LoRA", 0): None, ("LoRA", 1): "running", ("LoRA", 2): "diverged"}
        return special.get((arm, seed), flat(arm, seed))

    summary = tell(ablation(), story)
    lora = arm_of(summary, "LoRA")
    assert [(trial.seed, trial.status) for trial in lora.trials] == [(0, "missing"), (1, "running"), (2, "failed")]
    assert lora.trials[2].failure.kind == "diverged"
    assert (lora.estimates, lora.done, lora.complete) == ({}, 0, False)
    assert summary.counts == {"planned": 18, "done": 15, "running": 1, "stopped": 0, "failed": 1, "missing": 1}
    assert [(failure.arm, failure.seed, failure.kind) for failure in summary.failures] == [("LoRA", 2, "diverged")]


def test_every_metric_has_a_mean_with_an_interval():
    estimates = arm_of(tell(ablation(), flat), "AdvLoRA").estimates
    assert estimates[ROBUST].mean == pytest.approx(0.51)
    assert estimates[ROBUST].half_width == pytest.approx(0.02484138)
    assert (estimates[CLEAN].sd, estimates[CLEAN].low, estimates[CLEAN].n) == (0.0, pytest.approx(0.8), 3)
    assert {"cost/seconds", "params/trainable", "params/trainable_fraction"} <= estimates.keys()


def test_trials_are_found_by_id_and_not_by_the_name_of_the_arm():
    study = ablation()
    older = ablation(base={"data": {"train_samples": 9}})
    records = records_of(older, flat)
    plans = plan_arms(study, factory(study), {})
    summary = summarise_ablation(study, plans, records, IDENTITY, {})
    assert summary.counts["missing"] == summary.counts["planned"] == 18

    renamed = [replace(record, arm="an older name") for record in records_of(study, flat)]
    assert summarise_ablation(study, plans, renamed, IDENTITY, {}).counts["done"] == 18


def test_an_arm_whose_tuning_is_not_finished_has_missing_trials():
    tuning = {"parameters": {"optimiser.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2}}, "trials": 2}
    study = ablation(tuning=tuning)
    complete = tell(study, flat)
    lora = arm_of(complete, "LoRA")
    assert lora.tuning == {"planned": 2, "done": 2, "running": 0, "failed": 0}
    assert lora.tuned.keys() == {"optimiser.learning_rate"}
    assert arm_of(complete, "pretrained").tuning["planned"] == 0

    tried = [record for record in records_of(study, flat) if record.phase == "tune"][:1]
    plans = plan_arms(study, factory(study), scores_of(study, tried))
    lora = summarise_ablation(study, plans, tried, IDENTITY, {}).arms[0]
    assert (lora.tuned, lora.tuning["done"]) == (None, 1)
    assert [(trial.seed, trial.trial_id, trial.status) for trial in lora.trials] == [
        (s, None, "missing") for s in (0, 1, 2)
    ]


def test_a_tuning_trial_that_failed_is_listed_but_is_no_trial_of_the_table():
    tuning = {"parameters": {"optimiser.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2}}, "trials": 1}
    study = ablation(tuning=tuning)
    first = plan_arms(study, factory(study), {})[0].tuning[0]
    records = [record(first, "out_of_memory")]
    summary = summarise_ablation(
        study, plan_arms(study, factory(study), scores_of(study, records)), records, IDENTITY, {}
    )
    assert summary.counts["failed"] == 0
    assert summary.arms[0].tuning["failed"] == 1
    assert [(failure.phase, failure.kind) for failure in summary.failures] == [("tune", "out_of_memory")]


def test_the_summary_is_plain_finite_data():
    def story(arm, seed):
        return accuracies(0.5) | {"train/loss": math.nan, "cost/odd": math.inf}

    study = ablation(protocol={"curve": ["4/255"]})
    content = tell(study, story).to_json()
    text = json.dumps(content, allow_nan=False)
    assert json.loads(text) == content
    assert "train/loss" not in content["arms"][0]["trials"][0]["metrics"]
    assert content["metrics"]["curve"] == {"test/robust_r1:4_255": 4 / 255, ROBUST: 8 / 255}
    assert content["protocol"] == "PGD-10 (cross-entropy, L-inf 8/255), 500 val / 1000 test images"
    assert content["arms"][0]["estimates"][ROBUST]["n"] == 3
    assert content["provenance"]["commit"] == "c0ffee"


def test_a_number_that_json_cannot_hold_becomes_none():
    summary = replace(tell(ablation(), flat), provenance={"load": math.nan, "seen": (1, 2)})
    assert summary.to_json()["provenance"] == {"load": None, "seen": [1, 2]}


def test_runs_are_shown_where_they_are_known():
    study = ablation()
    trial = plan_arms(study, factory(study), {})[0].trials[1]
    summary = tell(study, flat, runs={trial.id: "run-1"})
    assert [trial.mlflow_run_id for trial in summary.arms[0].trials] == [None, "run-1", None]


def test_the_best_arm_is_the_highest_mean_on_val_at_the_first_seed_of_the_study():
    def story(arm, seed):
        # On test another arm is ahead, and within the best arm another seed is.
        robust = {"AdvLoRA": 0.6, "clustering": 0.55}.get(arm, 0.5) + 0.01 * seed
        return accuracies(robust) | {ROBUST: 0.9 if arm == "clustering" else 0.5}

    study = ablation(seeds=[5, 3, 9])
    best = tell(study, story).best
    assert (best.arm, best.seeds, best.config["seed"]) == ("AdvLoRA", (5, 3, 9), 5)
    assert best.metrics[VAL_ROBUST] == pytest.approx(0.66)
    assert best.reason.startswith(
        "'AdvLoRA' has the highest mean val/robust_r1:8_255 of 5 complete arms: 66.7 % over 3 seeds (95 % interval"
    )
    assert (best.data_hash, best.config["adapter"]["init"]["kind"]) == ("da7a", "kmeans")
    assert best.mlflow_run_id == f"run-{best.trial_id[:6]}"


def test_what_is_not_complete_or_trains_nothing_cannot_be_best():
    def story(arm, seed):
        if arm == "pretrained":
            return accuracies(0.95)
        if arm == "AdvLoRA":
            return "diverged" if seed == 2 else accuracies(0.9)
        return accuracies(0.6 if arm == "adaptive" else 0.5)

    assert tell(ablation(), story).best.arm == "adaptive"
    assert tell(ablation(), lambda arm, seed: None if seed else flat(arm, seed)).best is None


def test_of_equal_arms_the_cheaper_one_is_best():
    def story(arm, seed):
        return accuracies(0.5 + 0.01 * seed, trainable={"clustering": 10.0}.get(arm, 1000.0))

    assert tell(ablation(), story).best.arm == "clustering"
