"""Small real studies, trials and records; a test says only what matters to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from advlora.config import EvaluationProtocol, parse
from advlora.metrics import Metric
from advlora_platform.study.ablation import AblationStudy
from advlora_platform.study.ledger import Record
from advlora_platform.study.spec import Study
from advlora_platform.study.sweep import SweepStudy
from advlora_platform.study.trials import Trial, TrialFactory

EPSILON = 8 / 255
VAL_ROBUST, VAL_CLEAN = str(Metric.robust("val", EPSILON)), str(Metric.clean("val"))
TEST_ROBUST, TEST_CLEAN = str(Metric.robust("test", EPSILON)), str(Metric.clean("test"))
DATA_HASH = "da7a"
ARMS: dict[str, dict[str, Any]] = {"plain": {}, "wide": {"adapter.rank": 16}}


def ablation(**changes: Any) -> AblationStudy:
    """An ablation of two arms on two seeds, unless `changes` say otherwise."""
    content = {"name": "parts", "description": "Which part?", "seeds": [0, 1], "arms": ARMS}
    return parse(AblationStudy, {**content, **changes})


def sweep(**changes: Any) -> SweepStudy:
    """A sweep over the rank, unless `changes` say otherwise."""
    content = {"name": "search", "parameters": {"adapter.rank": {"type": "int", "low": 1, "high": 8}}}
    return parse(SweepStudy, {**content, **changes})


def factory(study: Study | None = None) -> TrialFactory:
    """The factory of a study's trials; without a study, of trials that are measured by the default protocol."""
    if study is None:
        return TrialFactory({}, EvaluationProtocol(), DATA_HASH)
    return TrialFactory(dict(study.base), study.protocol, DATA_HASH, study.reported_protocol)


def trial(arm: str = "plain", seed: int = 0, phase: str = "ablate", **values: Any) -> Trial:
    """A trial of `ablation()`; `adapter__rank=4` sets `adapter.rank`."""
    dotted = {key.replace("__", "."): value for key, value in values.items()}
    return factory(ablation()).trial(arm, seed, {**ARMS.get(arm, {}), **dotted}, phase)


def record(trial: Trial, metrics: Mapping[str, float] | None = None, **changes: Any) -> Record:
    """The record of a trial: done with these metrics after one epoch, or running where there are none."""
    content: dict[str, Any] = {
        "values": trial.values,
        "config": trial.config.model_dump(mode="json"),
        "status": "running",
        "began": 0.0,
    }
    if metrics is not None:
        content |= {"status": "done", "metrics": dict(metrics), "history": ({"epoch": 1, **metrics},)}
    return Record(trial.id, trial.arm, trial.seed, trial.phase, **{**content, **changes})
