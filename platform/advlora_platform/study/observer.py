"""What the driver tells about trials. Ledger, tracker and progress display each listen; none knows of Tune."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from advlora_platform.study.failures import Failure
from advlora_platform.study.trials import Trial


class Observer(Protocol):
    """Listens to the trials of a study, in the driver process only."""

    def trial_started(self, trial: Trial) -> None:
        """A worker takes the trial up, for the first time or again after an interruption."""

    def trial_reported(self, trial: Trial, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch is complete."""

    def trial_finished(
        self, trial: Trial, metrics: Mapping[str, float], stopped_early: bool, unreliable: str = ""
    ) -> None:
        """The trial has its last metrics.

        Args:
            trial: The trial.
            metrics: By name.
            stopped_early: Whether the scheduler ended it.
            unreliable: Why its robust accuracy cannot be trusted; empty where no check failed.
        """

    def trial_failed(self, trial: Trial, failure: Failure) -> None:
        """The trial ends without a result."""


@runtime_checkable
class Expectant(Protocol):
    """An observer that wants to know beforehand how much there will be."""

    def expect(self, total: int, remaining: int) -> None:
        """Says how many trials the study has and how many of them are still to run."""
