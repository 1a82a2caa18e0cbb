"""Studies with made-up results: real configurations, plans and trials, numbers that a test can calculate by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from advlora_platform.analysis import AblationSummary, SweepSummary, summarise_ablation, summarise_sweep
from advlora_platform.search.finalists import confirmation_plans
from advlora_platform.search.plan import plan_arms, scores_of
from advlora_platform.study.ablation import AblationStudy
from advlora_platform.study.failures import Failure
from advlora_platform.study.ledger import Record
from advlora_platform.study.sweep import SweepStudy
from advlora_platform.study.trials import Trial
from tests import builders
from tests.builders import TEST_CLEAN, TEST_ROBUST, VAL_CLEAN, VAL_ROBUST, factory

ROBUST, CLEAN = TEST_ROBUST, TEST_CLEAN
IDENTITY = {
    "study_id": "f00dfeed0123",
    "name": "story",
    "kind": "ablation",
    "data_hash": builders.DATA_HASH,
    "provenance": {"commit": "c0ffee", "dirty": True, "versions": {"torch": "2.9"}},
}

Result = Mapping[str, float] | str | None
"""Metrics of a trial that is done, the class of its failure, `running`, or None where it is missing."""
Story = Callable[[str, int], Result]
"""Arm and seed -> what became of the trial."""


def ablation(**changes: Any) -> AblationStudy:
    """Two factors, full fine-tuning and the pretrained model, three seeds."""
    content = {
        "name": "story",
        "description": "What earns its cost?",
        "seeds": [0, 1, 2],
        "protocol": {"samples": {"val": 400, "test": 1000}},
        "factors": {
            "clustering": {"key": "adapter.init", "on": "kmeans", "off": "gaussian"},
            "adaptive": {"key": "adapter.adaptive.enabled"},
        },
        "all_off": "LoRA",
        "all_on": "AdvLoRA",
        "arms": {"full": {"adapter.kind": "full"}, "pretrained": {"adapter.kind": "none"}},
    }
    return builders.ablation(**{**content, **changes})


def sweep(**changes: Any) -> SweepStudy:
    """Rank, and clusters where clustering is on."""
    content = {
        "name": "hunt",
        "parameters": {
            "adapter.rank": {"type": "int", "low": 2, "high": 32},
            "adapter.init": {"type": "categorical", "choices": ["kmeans", "gaussian"]},
            "adapter.init.clusters": {
                "type": "int",
                "low": 2,
                "high": 16,
                "when": {"adapter.init": "kmeans"},
            },
        },
        "search": {"trials": 12, "objectives": ["robust", "clean"]},
    }
    return builders.sweep(**{**content, **changes})


def accuracies(robust: float, clean: float = 0.8, **more: float) -> dict[str, float]:
    """Metrics of a finished trial; `val` is one point above `test`."""
    return {
        VAL_ROBUST: robust + 0.01,
        VAL_CLEAN: clean + 0.01,
        ROBUST: robust,
        CLEAN: clean,
        "cost/seconds": 20.0,
        "cost/flops": 4.2e13,
        "cost/vision_forwards": 25000.0,
        "cost/peak_memory_mb": 900.0,
        "params/trainable": more.pop("trainable", 1000.0),
        "params/trainable_fraction": 0.03,
        **more,
    }


def record(trial: Trial, result: Result, began: float = 0.0) -> Record:
    """The record of a trial."""
    if result is None or result == "running":
        return builders.record(trial, began=began)
    if isinstance(result, str):
        failure = Failure(result, f"it {result} [here]")
        return builders.record(trial, status="failed", failure=failure, began=began)
    return builders.record(trial, result, began=began)


def records_of(study: AblationStudy, story: Story, known: Mapping[str, Record] | None = None) -> list[Record]:
    """What the ledger holds: tuning trials, each as good as its number, then the trials of the story.

    What is `known` already stays as it is.
    """
    records: dict[str, Record] = dict(known or {})
    while True:
        plans = plan_arms(study, factory(study), scores_of(study, records.values()))
        tuning = [trial for plan in plans for trial in plan.tuning if trial.id not in records]
        if not tuning:
            break
        records |= {trial.id: record(trial, accuracies(0.1 + 0.01 * len(records))) for trial in tuning}
    for plan in plans:
        for trial in plan.trials:
            result = story(plan.arm.name, trial.seed)
            if result is not None:
                records[trial.id] = record(trial, result)
    return list(records.values())


def tell(study: AblationStudy, story: Story, runs: Mapping[str, str] | None = None) -> AblationSummary:
    """The summary of an ablation."""
    records = records_of(study, story)
    plans = plan_arms(study, factory(study), scores_of(study, records))
    known = {item.trial_id: f"run-{item.trial_id[:6]}" for item in records} if runs is None else runs
    return summarise_ablation(study, plans, records, IDENTITY, known)


def trials(study: SweepStudy, results: Mapping[int, Result]) -> list[Record]:
    """Records of a sweep by rank; clustering is on for every even rank, with half as many clusters."""
    found = []
    for place, (rank, result) in enumerate(results.items()):
        values: dict[str, Any] = {"adapter.rank": rank, "adapter.init": "gaussian" if rank % 2 else "kmeans"}
        if rank % 2 == 0:
            values["adapter.init.clusters"] = max(rank // 2, 2)
        found.append(record(factory(study).trial("search", study.seed, values, "search"), result, began=float(place)))
    return found


def tell_sweep(study: SweepStudy, records: list[Record]) -> SweepSummary:
    """The summary of a sweep."""
    plans = confirmation_plans(study, factory(study), records)
    return summarise_sweep(study, plans, records, {**IDENTITY, "kind": "sweep"}, {})


def confirmations(study: SweepStudy, records: list[Record], story: Story) -> list[Record]:
    """Records of the second stage; `story` takes the finalist's rank and the seed."""
    plans = confirmation_plans(study, factory(study), records)
    trials = [trial for plan in plans for trial in plan.trials]
    results = [(trial, story(trial.values["adapter.rank"], trial.seed)) for trial in trials]
    return [record(trial, result) for trial, result in results if result is not None]
