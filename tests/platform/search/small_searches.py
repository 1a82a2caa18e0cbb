"""Studies of a few trials for the searchers, with a conditional parameter and with tuning."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from advlora_platform.study.ablation import AblationStudy
from advlora_platform.study.ledger import Record
from advlora_platform.study.parameters import Space
from advlora_platform.study.sweep import SweepStudy
from advlora_platform.study.trials import Trial
from tests import builders

ROBUST = builders.VAL_ROBUST

PARAMETERS = {
    "adapter.rank": {"type": "int", "low": 2, "high": 16, "log": True},
    "adapter.init.clusters": {
        "type": "int",
        "low": 2,
        "high": 32,
        "when": {"adapter.init": "kmeans"},
    },
    "adapter.init": {"type": "categorical", "choices": ["kmeans", "gaussian"]},
    "attack.epsilon": {"type": "float", "low": "2/255", "high": "16/255"},
}


def space(**parameters: Any) -> Space:
    return TypeAdapter(Space).validate_python(parameters or PARAMETERS)


def sweep(**changes: Any) -> SweepStudy:
    content = {"parameters": PARAMETERS, "search": {"trials": 6, "scheduler": {"kind": "none"}}}
    return builders.sweep(**{**content, **changes})


def ablation(**changes: Any) -> AblationStudy:
    content = {
        "factors": {"clustering": {"key": "adapter.init", "on": "kmeans", "off": "gaussian"}},
        "arms": {"full": {"adapter.kind": "full"}, "pretrained": {"adapter.kind": "none"}},
        "tuning": {
            "parameters": {"optimiser.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}},
            "trials": 3,
        },
    }
    return builders.ablation(**{**content, **changes})


def record(trial: Trial, status: str = "done", score: float | None = 0.5, **changes: Any) -> Record:
    """The record of a trial of one second with this score."""
    metrics = {} if score is None else {ROBUST: score}
    return builders.record(trial, metrics, **{"status": status, "began": 1.0, "ended": 2.0, **changes})
