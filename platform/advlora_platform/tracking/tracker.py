"""The tracker: an observer that writes into MLflow, and never stops a study."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from advlora_platform.study.failures import Failure
from advlora_platform.study.folder import StudyFolder, read_json, write_json
from advlora_platform.study.ledger import Ledger, Record
from advlora_platform.study.spec import Study
from advlora_platform.study.trials import Trial
from advlora_platform.tracking.conclusion import IMAGES, log_conclusion
from advlora_platform.tracking.events import Event, Spool, TrackedTrial, history
from advlora_platform.tracking.runs import StudyRuns
from advlora_platform.tracking.store import explained, open_store, public_uri, reason, tracking_uri

if TYPE_CHECKING:
    from advlora_platform.analysis import Summary

RETRY_SECONDS = 30.0
"""How long a store that failed is left alone: every attempt may cost the driver a timeout."""
REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST")
"""Error codes of calls that would fail again."""

logger = logging.getLogger("advlora")


class MlflowTracker:
    """The one writer of MLflow, in the driver.

    A launch continues the runs of earlier ones: they are found by the study's id. What the store does not take waits
    in the study folder and is delivered, in order, before anything newer.
    """

    def __init__(self, study: Study, folder: StudyFolder) -> None:
        """Opens the store and catches up with what earlier launches could not log.

        Raises:
            UserError: If the store cannot be used.
        """
        self._folder, self._spool = folder, Spool(folder.spool)
        self._uri = tracking_uri()
        self._retry_at: float | None = None
        identity = read_json(folder.identity) or {}
        client = open_store(self._uri)
        with explained(self._uri):
            self._runs = StudyRuns(client, study, identity["study_id"], self._uri)
            self._study_run = self._runs.study()
        self._replay()
        self._catch_up(Ledger(folder).records())
        self._save()

    def trial_started(self, trial: Trial) -> None:
        """Opens the run of a trial, for the first time or again."""
        self._observe(Event("started", TrackedTrial.of_trial(trial)))

    def trial_reported(self, trial: Trial, epoch: int, metrics: Mapping[str, float]) -> None:
        """Logs an epoch as one batch, with the epoch as step."""
        self._observe(Event("reported", TrackedTrial.of_trial(trial), epoch=epoch, metrics=dict(metrics)))

    def trial_finished(
        self, trial: Trial, metrics: Mapping[str, float], stopped_early: bool, unreliable: str = ""
    ) -> None:
        """Logs the last metrics as `final/...` and what cannot be trusted as a tag, and ends the run."""
        tracked, known = TrackedTrial.of_trial(trial), dict(metrics)
        self._observe(Event("finished", tracked, metrics=known, stopped_early=stopped_early, unreliable=unreliable))

    def trial_failed(self, trial: Trial, failure: Failure) -> None:
        """Ends the run with the reason as tags."""
        self._observe(Event("failed", TrackedTrial.of_trial(trial), failure=failure))

    def runs(self) -> dict[str, str]:
        """Returns trial id -> run id of every trial that was tracked, after another attempt at what waits."""
        self._replay()
        return self._runs.trials()

    def conclude(self, summary: Summary, files: Sequence[Path]) -> None:
        """Logs the answers of the study into its runs, with the report as artefacts, and ends them."""
        self._replay()
        try:
            self._runs.find()
            log_conclusion(self._runs, summary, files)
            self._study_run = self._runs.study()
        except Exception as error:
            logger.warning(
                "the conclusion is not in MLflow (%s); the same command again logs it", reason(self._uri, error)
            )
        self._save()

    def add(self, metrics: Mapping[str, float], files: Sequence[Path], place: str) -> None:
        """Logs what was found after the conclusion into the run of the study; images go below `place/figures`."""
        self._replay()
        try:
            self._runs.find()
            self._runs.answer(self._runs.study(), metrics, {})
            for file in files:
                self._runs.attach(self._runs.study(), file, f"{place}/figures" if file.suffix in IMAGES else place)
        except Exception as error:
            logger.warning("%s is not in MLflow (%s); the same command again logs it", place, reason(self._uri, error))
        self._save()

    def _observe(self, event: Event) -> None:
        waiting = self._retry_at is not None and time.monotonic() < self._retry_at
        if waiting or not self._replay() or not self._deliver(event):
            self._spool.append(event)
        else:
            self._save()

    def _replay(self) -> bool:
        """Delivers what waits; returns whether nothing waits any more."""
        events = self._spool.events()
        if not events:
            return True
        try:
            self._runs.find()  # a call whose answer was lost may have made a run
        except Exception as error:
            return self._failed(error)
        if not all(self._deliver(event) for event in events):
            return False
        self._spool.clear()
        self._save()
        return True

    def _deliver(self, event: Event) -> bool:
        """Applies an event; returns False if it has to wait."""
        from mlflow.exceptions import MlflowException

        try:
            try:
                self._runs.apply(event)
            except MlflowException:
                self._runs.find()  # the run may have been deleted in the UI: then it is made anew
                self._runs.apply(event)
        except Exception as error:
            if getattr(error, "error_code", None) not in REFUSALS:
                return self._failed(error)
            logger.warning("MLflow refuses %s of %s: %s", event.kind, event.trial.trial_id, reason(self._uri, error))
        self._retry_at = None
        return True

    def _failed(self, error: Exception) -> bool:
        """Leaves the store alone for a while; says so once per outage."""
        if self._retry_at is None:
            logger.warning(
                "MLflow store %s fails (%s); the study goes on, and what it cannot take waits in %s",
                public_uri(self._uri),
                reason(self._uri, error),
                self._folder.spool,
            )
        self._retry_at = time.monotonic() + RETRY_SECONDS
        return False

    def _catch_up(self, records: Iterable[Record]) -> None:
        """Tells settled trials that the store does not know (another store, a deleted run) or knows as running."""
        known, running = self._runs.trials(), self._runs.open_trials()
        for record in records:
            if record.settled and (record.trial_id not in known or record.trial_id in running):
                events = list(history(record))
                for event in events[-1:] if record.trial_id in running else events:
                    self._observe(event)

    def _save(self) -> None:
        content = {
            "uri": public_uri(self._uri),
            "experiment_id": self._runs.experiment_id,
            "study_run": self._study_run,
            "runs": self._runs.trials(),
        }
        if content != read_json(self._folder.tracking):
            write_json(self._folder.tracking, content)


def known_runs(folder: StudyFolder) -> dict[str, str]:
    """Returns trial id -> run id as last tracked, without asking the store."""
    runs: dict[str, str] = (read_json(folder.tracking) or {}).get("runs", {})
    return runs
