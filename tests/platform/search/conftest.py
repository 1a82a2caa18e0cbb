from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from advlora.config import EvaluationProtocol, parse
from advlora_platform.study.ablation import AblationStudy
from advlora_platform.study.ledger import Record
from advlora_platform.study.parameters import Space
from advlora_platform.study.sweep import SweepStudy
from advlora_platform.study.trials import TrialFactory

ROBUST = "val/robust_r1:8_255"

PARAMETERS = {
    "adapter.rank": {"type": "int", "low": 2, "high": 16, "log": True},
    "adapter.clustering.clusters": {
        "type": "int",
        "low": 2,
        "high": 32,
        "when": {"adapter.clustering.enabled": True},
    },
    "adapter.clustering.enabled": {"type": "categorical", "choices": [True, False]},
    "attack.epsilon": {"type": "float", "low": "2/255", "high": "16/255"},
}


def space(**parameters) -> Space:
    return TypeAdapter(Space).validate_python(parameters or PARAMETERS)


def sweep(**changes) -> SweepStudy:
    content = {"name": "s", "parameters": PARAMETERS, "search": {"trials": 6, "scheduler": {"kind": "none"}}}
    return parse(SweepStudy, {**content, **changes})


def ablation(**changes) -> AblationStudy:
    content = {
        "name": "a",
        "seeds": [0, 1],
        "factors": {"clustering": {"key": "adapter.clustering.enabled"}},
        "arms": {"full": {"adapter.kind": "full"}, "pretrained": {"adapter.kind": "none"}},
        "tuning": {
            "parameters": {"optimiser.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}},
            "trials": 3,
        },
    }
    return parse(AblationStudy, {**content, **changes})


@pytest.fixture
def factory() -> TrialFactory:
    return TrialFactory({}, EvaluationProtocol(), "d")


def record(trial, status="done", score=0.5, **changes) -> Record:
    metrics = {} if score is None else {ROBUST: score}
    history = ({"epoch": 1, **metrics},)
    content = {
        "values": trial.values,
        "config": {},
        "status": status,
        "metrics": metrics,
        "history": history,
        "began": 1.0,
        "ended": 2.0,
    }
    return Record(trial.id, trial.arm, trial.seed, trial.phase, **{**content, **changes})
