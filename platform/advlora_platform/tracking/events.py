"""What happened to a trial, as plain data: it can wait on disk until the tracking server answers again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
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


class Spool:
    """Events that wait for the store, oldest first, one JSON line each."""

    def __init__(self, path: Path) -> None:
        """Opens the spool of a study folder; no file means that nothing waits."""
        self._path = path

    def events(self) -> list[Event]:
        """Returns what waits; half a line, which a crash may leave, is none."""
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return [event for line in lines if (event := _read(line)) is not None]

    def append(self, event: Event) -> None:
        """Adds an event, flushed to disk."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as handle:
            handle.write(f"\n{json.dumps(asdict(event))}\n")  # the first line break ends half a line before it
            handle.flush()
            os.fsync(handle.fileno())

    def clear(self) -> None:
        """Forgets everything: it was delivered."""
        self._path.unlink(missing_ok=True)


def _read(line: str) -> Event | None:
    try:
        return Event.from_json(json.loads(line))
    except json.JSONDecodeError:
        return None
