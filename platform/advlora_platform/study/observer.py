"""What the driver tells about trials. Ledger, tracker and progress display each listen; none knows of Tune."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from advlora_platform.study.failures import Failure
from advlora_platform.study.trials import Trial

logger = logging.getLogger("advlora")


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


@runtime_checkable
class Waiting(Protocol):
    """An observer that wants to know when the study waits for the cluster."""

    def waiting(self, text: str) -> None:
        """Says what it waits for, for how long, and who may hold it."""


class Shielded:
    """A listener whose errors are logged once and never stop a study: nothing that is computed depends on it."""

    def __init__(self, listener: Observer) -> None:
        self._listener, self._logged = listener, False

    def expect(self, total: int, remaining: int) -> None:
        """Passes on how much there will be, to a listener that wants to know."""
        listener = self._listener
        if isinstance(listener, Expectant):
            self._pass_on(lambda: listener.expect(total, remaining))

    def waiting(self, text: str) -> None:
        """Passes on what the study waits for, to a listener that wants to know."""
        listener = self._listener
        if isinstance(listener, Waiting):
            self._pass_on(lambda: listener.waiting(text))

    def trial_started(self, trial: Trial) -> None:
        """Passes it on."""
        self._pass_on(lambda: self._listener.trial_started(trial))

    def trial_reported(self, trial: Trial, epoch: int, metrics: Mapping[str, float]) -> None:
        """Passes it on."""
        self._pass_on(lambda: self._listener.trial_reported(trial, epoch, metrics))

    def trial_finished(
        self, trial: Trial, metrics: Mapping[str, float], stopped_early: bool, unreliable: str = ""
    ) -> None:
        """Passes it on."""
        self._pass_on(lambda: self._listener.trial_finished(trial, metrics, stopped_early, unreliable))

    def trial_failed(self, trial: Trial, failure: Failure) -> None:
        """Passes it on."""
        self._pass_on(lambda: self._listener.trial_failed(trial, failure))

    def _pass_on(self, event: Callable[[], None]) -> None:
        try:
            event()
        except Exception as error:
            if not self._logged:
                name, what = type(self._listener).__name__, f"{type(error).__name__}: {error}"
                logger.warning("%s fails (%s); the study goes on without it", name, what)
            self._logged = True
