"""The tracker: an observer that writes into MLflow, and never stops or delays a study."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from advlora_platform.study.failures import Failure
from advlora_platform.study.folder import StudyFolder, read_json
from advlora_platform.study.ledger import Ledger, Record
from advlora_platform.study.spec import Study
from advlora_platform.study.trials import Trial
from advlora_platform.tracking.conclusion import IMAGES, log_conclusion
from advlora_platform.tracking.delivery import Delivery
from advlora_platform.tracking.events import Event, Interruption, Tracked, TrackedTrial, history
from advlora_platform.tracking.runs import StudyRuns
from advlora_platform.tracking.spool import Spool
from advlora_platform.tracking.store import explained, open_store, persistent, reason, tracking_uri

if TYPE_CHECKING:
    from advlora_platform.analysis import Summary

FLUSH_SECONDS, CONCLUDE_SECONDS, CLOSE_SECONDS = 15.0, 60.0, 5.0
"""How long the driver waits at most: before its report, for its conclusion, and when it is interrupted."""

logger = logging.getLogger("advlora")


class MlflowTracker:
    """The one writer of MLflow, in the driver.

    What happens is written into the study folder at once, and delivered from there by a thread, in order. A launch
    continues the runs of earlier ones, which are found by the study's id, and delivers what they left. As a context
    manager it ends the runs that are open as killed when the driver is interrupted.
    """

    def __init__(self, study: Study, folder: StudyFolder) -> None:
        """Opens the store and takes up what earlier launches could not log.

        Raises:
            UserError: If the store cannot be used.
        """
        self._spool, self._uri = Spool(folder.spool), tracking_uri()
        self._said = False
        identity = read_json(folder.identity) or {}
        client = open_store(self._uri)
        with explained(self._uri):
            self._runs = persistent(lambda: StudyRuns(client, study, identity["study_id"], self._uri))
            self._take_over(Ledger(folder).records())
            persistent(self._runs.study)
        self._delivery = Delivery(self._runs, self._spool, self._uri, folder.tracking)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.interrupted()

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
        """Returns trial id -> run id of every trial that was tracked, as far as it is known after a limited wait."""
        self.flush()
        return self._runs.trials()

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Waits until everything is delivered, or the store takes nothing; returns whether nothing waits."""
        try:
            self._delivery.ask(lambda: None, seconds)
        except Exception:  # said by the thread, and at the end by `close`
            return False
        return True

    def conclude(self, summary: Summary, files: Sequence[Path]) -> None:
        """Logs the answers of the study into its runs, with the report as artefacts, and ends them."""

        def log() -> None:
            self._runs.find()
            log_conclusion(self._runs, summary, files)

        self._log_at_the_end("the conclusion", log)

    def add(self, metrics: Mapping[str, float], files: Sequence[Path], place: str) -> None:
        """Logs what was found after the conclusion into the run of the study; images go below `place/figures`."""

        def log() -> None:
            self._runs.find()
            self._runs.answer(self._runs.study(), metrics, {})
            for file in files:
                self._runs.attach(self._runs.study(), file, f"{place}/figures" if file.suffix in IMAGES else place)

        self._log_at_the_end(place, log)

    def interrupted(self) -> None:
        """Ends the runs that are open as killed, now or at the next launch."""
        self._observe(Interruption())
        self.close(CLOSE_SECONDS)

    def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """Ends tracking, after a limited wait for what is not delivered yet."""
        if not self.flush(seconds) and not self._said and (waiting := self._waiting()):
            logger.warning(waiting)
            self._said = True
        self._delivery.stop()

    def _observe(self, event: Tracked) -> None:
        self._spool.append(event)
        self._delivery.notify()

    def _log_at_the_end(self, what: str, job: Callable[[], None]) -> None:
        try:
            self._delivery.ask(lambda: persistent(job), CONCLUDE_SECONDS)
        except Exception as error:
            why = reason(self._uri, error)
            logger.warning("%s is not in MLflow (%s); the same command again logs it%s", what, why, self._also())
            self._said = True

    def _also(self) -> str:
        return f". {waiting}" if (waiting := self._waiting()) else ""

    def _waiting(self) -> str:
        """Says how much is not delivered, and what to do; empty when nothing waits."""
        number = len(self._spool.events())
        return f"{number} tracking events wait in {self._spool.path}; the same command delivers them" if number else ""

    def _take_over(self, records: Iterable[Record]) -> None:
        """Spools what the store will not know once it has what waits, and ends runs that a dead driver left open.

        These are trials that are settled but unknown (another store, a deleted run), and those settled whose end was
        not told. Every other run that is open is ended as killed; a trial that is taken up again reopens its own.
        """
        waiting = [event for event in self._spool.events() if isinstance(event, Event)]
        running = {name for kind, name in self._runs.open() if kind == "trial"}
        running |= {event.trial.trial_id for event in waiting}
        running -= {event.trial.trial_id for event in waiting if event.ends}
        known = self._runs.trials().keys() | {event.trial.trial_id for event in waiting}
        for record in records:
            if record.settled and (record.trial_id not in known or record.trial_id in running):
                events = list(history(record))
                for event in events[-1:] if record.trial_id in running else events:
                    self._spool.append(event)
        if self._runs.open() or waiting:
            self._spool.append(Interruption())


def known_runs(folder: StudyFolder) -> dict[str, str]:
    """Returns trial id -> run id as last tracked, without asking the store."""
    runs: dict[str, str] = (read_json(folder.tracking) or {}).get("runs", {})
    return runs
