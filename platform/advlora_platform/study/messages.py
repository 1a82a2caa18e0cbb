"""What a worker says of a trial, on its way through mailbox, slot and Tune to bridge, searcher and scheduler.

It lies in `study/`, below both `execution/` and `search/`, because the searchers read the same messages as the bridge.
Tune carries a message as a flat dictionary; no other module spells its keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from advlora_platform.study.failures import Failure

EPOCH = "epoch"
"""Key of the number of the epoch, by which a scheduler counts."""
_EVENT, _METRICS, _FINAL, _UNRELIABLE = "event", "metrics/", "final", "unreliable"
_KIND, _TEXT, _TRACEBACK = "failure/kind", "failure/message", "failure/traceback"
_DONE = "done"
"""Key by which Tune knows that a trial has ended."""


@dataclass(frozen=True)
class Started:
    """A worker has taken the trial up."""

    def to_tune(self) -> dict[str, Any]:
        """Returns the message as Tune carries it."""
        return {_EVENT: "started"}


@dataclass(frozen=True)
class Reported:
    """An epoch is complete.

    Attributes:
        epoch: Its number, from 1.
        metrics: By name.
        final: Whether it was the last one.
        unreliable: Why the robust accuracy cannot be trusted; empty where no check failed.
    """

    epoch: int
    metrics: Mapping[str, float]
    final: bool = False
    unreliable: str = ""

    def to_tune(self) -> dict[str, Any]:
        """Returns the message as Tune carries it."""
        metrics = {tune_name(name): value for name, value in self.metrics.items()}
        told = {_EVENT: "reported", EPOCH: self.epoch, _FINAL: self.final, _UNRELIABLE: self.unreliable}
        return {**told, **metrics, _DONE: self.final}


@dataclass(frozen=True)
class Failed:
    """The trial has ended without a result."""

    failure: Failure

    def to_tune(self) -> dict[str, Any]:
        """Returns the message as Tune carries it."""
        why = {_KIND: self.failure.kind, _TEXT: self.failure.message, _TRACEBACK: self.failure.traceback}
        return {_EVENT: "failed", **why, _DONE: True}


Message = Started | Reported | Failed


def tune_name(metric: str) -> str:
    """Returns the key of a metric in Tune's results, by which searchers and schedulers ask for it."""
    return f"{_METRICS}{metric}"


def from_tune(result: Mapping[str, Any] | None) -> Message | None:
    """Reads the message that a result of Tune carries; None where Tune has no result of the trial."""
    if result is None or _EVENT not in result:
        return None
    if result[_EVENT] == "started":
        return Started()
    if result[_EVENT] == "failed":
        return Failed(Failure(result[_KIND], result[_TEXT], result[_TRACEBACK]))
    metrics = {key.removeprefix(_METRICS): value for key, value in result.items() if key.startswith(_METRICS)}
    return Reported(result[EPOCH], metrics, result[_FINAL], result[_UNRELIABLE])
