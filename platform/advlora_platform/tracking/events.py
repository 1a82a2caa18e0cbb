"""What happened to a trial, as plain data: it can wait on disk until the store has it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from advlora_platform.study.failures import Failure
from advlora_platform.study.ledger import Record
from advlora_platform.study.trials import Trial

Kind = Literal["started", "reported", "finished", "failed"]


@dataclass(frozen=True)
class TrackedTrial:
    """What a run needs to know of its trial."""

    trial_id: str
    arm: str
    seed: int
    phase: str
    values: dict[str, Any]
    config: dict[str, Any]

    @classmethod
    def of_trial(cls, trial: Trial) -> TrackedTrial:
        """Takes a trial as the observers get it."""
        return cls(trial.id, trial.arm, trial.seed, trial.phase, trial.values, trial.config.model_dump(mode="json"))

    @classmethod
    def of_record(cls, record: Record) -> TrackedTrial:
        """Takes a trial as the ledger keeps it."""
        return cls(record.trial_id, record.arm, record.seed, record.phase, record.values, record.config)


@dataclass(frozen=True)
class Event:
    """One of the four things an observer hears.

    Attributes:
        time: Unix time in seconds. MLflow takes a metric with the same time, step and value only once, so that an
            event may be delivered again.
    """

    kind: Kind
    trial: TrackedTrial
    time: float = field(default_factory=time.time)
    epoch: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    stopped_early: bool = False
    failure: Failure | None = None
    unreliable: str = ""

    @property
    def milliseconds(self) -> int:
        """The time as MLflow counts it."""
        return int(self.time * 1000)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Event:
        """Rebuilds an event from plain data."""
        failure = content["failure"]
        parts = {"trial": TrackedTrial(**content["trial"]), "failure": None if failure is None else Failure(**failure)}
        return cls(**{**content, **parts})

    @property
    def ends(self) -> bool:
        """Whether the run of the trial ends with it."""
        return self.kind in {"finished", "failed"}

    def __str__(self) -> str:
        return f"{self.kind} of {self.trial.trial_id}"


@dataclass(frozen=True)
class Interruption:
    """The driver stopped in the middle of things: every run that is open ends as killed."""

    time: float = field(default_factory=time.time)
    kind: Literal["interrupted"] = "interrupted"

    @property
    def milliseconds(self) -> int:
        """The time as MLflow counts it."""
        return int(self.time * 1000)

    def __str__(self) -> str:
        return "the interruption"


Tracked = Event | Interruption
"""What waits in the spool."""


def read_tracked(content: Mapping[str, Any]) -> Tracked:
    """Rebuilds what was spooled from plain data."""
    return Interruption(**content) if content["kind"] == "interrupted" else Event.from_json(content)


def history(record: Record) -> Iterator[Event]:
    """Tells a settled record from its start to its end. The times of single epochs are not known."""
    trial, ended = TrackedTrial.of_record(record), record.ended or record.began
    yield Event("started", trial, record.began)
    for entry in record.history:
        metrics = {name: value for name, value in entry.items() if name != "epoch"}
        yield Event("reported", trial, ended, int(entry["epoch"]), metrics)
    if record.failure is not None:
        yield Event("failed", trial, ended, failure=record.failure)
    else:
        yield Event(
            "finished",
            trial,
            ended,
            metrics=record.metrics,
            stopped_early=record.status == "stopped",
            unreliable=record.unreliable,
        )
