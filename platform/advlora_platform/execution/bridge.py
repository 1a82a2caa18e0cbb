"""From Tune's events to the observers of a study, in the driver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ray import tune

from advlora.errors import UserError
from advlora_platform.study.failures import LOST_WORKER, Failure, class_of
from advlora_platform.study.messages import Failed, Reported, Started, from_tune
from advlora_platform.study.observer import Observer
from advlora_platform.study.trials import Trial, TrialFactory


class Bridge(tune.Callback):
    """Tells every observer, in order, what happens to a trial; stops the study for what the user has to fix."""

    def __init__(self, factory: TrialFactory, observers: Sequence[Observer], heartbeat: Callable[[], None]) -> None:
        """Takes the observers, and what is called at every turn of Tune's loop."""
        self._factory, self._observers, self._heartbeat = factory, observers, heartbeat
        self._latest: dict[str, dict[str, float]] = {}
        self._ended: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Saves nothing when Tune saves its run: observers hold locks, and the ledger continues a study."""
        return {}

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Shows that the driver lives."""
        self._heartbeat()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Passes a message of the worker on."""
        ours, message = self._trial(trial), from_tune(result)
        if isinstance(message, Started):
            self._tell(lambda observer: observer.trial_started(ours))
        elif isinstance(message, Failed):
            self._fail(trial, message.failure)
        elif isinstance(message, Reported):
            self._report(trial, ours, message)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial that ends without its final report was stopped early."""
        if trial.trial_id not in self._ended:
            ours, metrics = self._trial(trial), self._latest.get(trial.trial_id, {})
            self._tell(lambda observer: observer.trial_finished(ours, metrics, True))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune gave the trial up: its slot died."""
        reason = str(getattr(trial, "get_error", lambda: None)() or "the process of the slot died")
        lines = reason.splitlines()
        self._fail(trial, Failure(LOST_WORKER.name, lines[-1][:300], reason if len(lines) > 1 else ""))

    def _report(self, trial: Any, ours: Trial, said: Reported) -> None:
        self._latest[trial.trial_id] = {**self._latest.get(trial.trial_id, {}), **said.metrics}
        self._tell(lambda observer: observer.trial_reported(ours, said.epoch, said.metrics))
        if said.final:
            self._ended.add(trial.trial_id)
            self._tell(lambda observer: observer.trial_finished(ours, said.metrics, False, said.unreliable))

    def _fail(self, trial: Any, failure: Failure) -> None:
        self._ended.add(trial.trial_id)
        ours = self._trial(trial)
        self._tell(lambda observer: observer.trial_failed(ours, failure))
        if class_of(failure).stops:
            raise UserError(f"{ours.name}: {failure.message}; the study has stopped, and the same command continues it")

    def _tell(self, event: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            event(observer)

    def _trial(self, trial: Any) -> Trial:
        return self._factory.from_tune(trial.config)
