"""The delivery: one thread that takes events from the spool to the store, at whatever pace the store has."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from advlora_platform.study.folder import write_json
from advlora_platform.tracking.artefacts import ArtefactError
from advlora_platform.tracking.events import Event, Tracked
from advlora_platform.tracking.runs import StudyRuns
from advlora_platform.tracking.spool import Spool
from advlora_platform.tracking.store import public_uri, reason, refused

FIRST_RETRY_SECONDS, RETRY_SECONDS = 0.25, 30.0
"""Pause after the first failure, doubled at each further one up to the longest."""
SAVE_SECONDS = 5.0
"""How often the list of runs is written at most."""
EVENT_ATTEMPTS = 20
"""After how many failures, while the store takes other calls, an event is given up."""
TOGETHER = 500
"""How many reports that wait are logged at once: a store takes a long batch nearly as fast as a short one."""
LARGEST_SPOOL = 8 * 2**20
"""Bytes at which a spool that was delivered is removed while the study runs."""

T = TypeVar("T")
logger = logging.getLogger("advlora")


class Delivery:
    """Delivers in the order in which things happened; the only user of the MLflow client while it runs."""

    def __init__(self, runs: StudyRuns, spool: Spool, uri: str, tracking: Path) -> None:
        """Starts the thread, a daemon: a store that stalls keeps no process alive."""
        self._runs, self._spool, self._uri, self._tracking = runs, spool, uri, tracking
        self._wake = threading.Condition()
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._news = self._hurry = self._stopped = False
        self._attempts = self._failures = 0
        self._warned = self._alone = False
        self._saved: dict[str, Any] = {}
        self._saved_at = 0.0
        self._dirty = False
        self._save()
        self._thread = threading.Thread(target=self._work, name="advlora-tracking", daemon=True)
        self._thread.start()

    def notify(self) -> None:
        """Says that something was spooled."""
        with self._wake:
            self._news = True
            self._wake.notify()

    def ask(self, job: Callable[[], T], seconds: float) -> T:
        """Has a job done by the thread once nothing waits in the spool, and returns its result.

        Raises:
            TimeoutError: If it was not done in this time; a job that has not begun is dropped.
            Exception: What the job raised, or why the store takes nothing at present.
        """
        future: Future[T] = Future()
        with self._wake:
            if self._stopped:
                raise TimeoutError("tracking has ended")
            self._jobs.append((future, job))
            self._hurry = True
            self._wake.notify()
        try:
            return future.result(seconds)
        except TimeoutError:
            future.cancel()
            raise TimeoutError(f"not done within {seconds:.0f} s") from None

    def stop(self) -> None:
        """Ends the thread, after the call that it is in."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._thread.join(1)

    def _work(self) -> None:
        while not self._stopped:
            try:
                self._step()
            except Exception as error:  # such as a full disk
                self._failed(error)
        with suppress(OSError):  # `conclude` has saved what matters; a full disk must not end in a traceback here
            self._save()

    def _step(self) -> None:
        # Looked at before the spool: what was spooled before a job was asked for is then delivered before it.
        asked = bool(self._jobs)
        events = self._spool.front(1 if self._alone else TOGETHER)
        if len(events) > 1:
            self._deliver_together(events)
        elif events:
            self._deliver(events[0])
        elif asked:
            self._run_job()
        else:
            self._rest()
        if self._dirty and time.monotonic() - self._saved_at > SAVE_SECONDS:
            self._save()

    def _deliver_together(self, reports: Sequence[Tracked]) -> None:
        """Delivers reports, a batch per trial; where that fails, one by one tells whose fault it is."""
        try:
            self._runs.report([event for event in reports if isinstance(event, Event)])
        except Exception:
            self._alone = True
        else:
            self._delivered()

    def _deliver(self, event: Tracked) -> None:
        try:
            self._apply(event)
        except Exception as error:
            if not self._hopeless(event, error):
                return
            logger.warning("MLflow refuses %s: %s", event, reason(self._uri, error))
        self._delivered()

    def _delivered(self) -> None:
        self._attempts = self._failures = 0
        self._warned = self._alone = False
        self._dirty = True
        self._spool.advance()

    def _apply(self, event: Tracked) -> None:
        try:
            self._runs.apply(event)
        except Exception as error:
            if not refused(error):
                raise
            self._runs.look_again(event)
            self._runs.apply(event)

    def _hopeless(self, event: Tracked, error: Exception) -> bool:
        """Decides what a failure means: of the event, which is skipped; of the artefacts; or of the store."""
        if refused(error):
            return True
        if not self._runs.answers():
            self._attempts = 0
            self._failed(error)
            return False
        self._attempts += 1
        if isinstance(error, ArtefactError) and self._runs.forgo_artefacts(error):
            return False
        if self._attempts >= EVENT_ATTEMPTS:
            return True
        self._pause(self._attempts)
        return False

    def _failed(self, error: Exception) -> None:
        """Leaves the store alone for a while; says so once per outage, and tells whoever waits."""
        self._failures += 1
        if self._failures > 1:
            self._warn(error)
            with self._wake:
                while self._jobs:
                    future, _ = self._jobs.popleft()
                    if future.set_running_or_notify_cancel():
                        future.set_exception(error)
        self._pause(self._failures)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            logger.warning(
                "MLflow store %s fails (%s); the study goes on, and what it cannot take waits in %s",
                public_uri(self._uri),
                reason(self._uri, error),
                self._spool.path,
            )
        self._warned = True

    def _pause(self, failures: int) -> None:
        seconds = min(FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 20), RETRY_SECONDS)
        with self._wake:
            self._wake.wait_for(lambda: self._hurry or self._stopped, seconds)
            self._hurry = False

    def _run_job(self) -> None:
        self._spool.clear()
        with self._wake:
            future, job = self._jobs.popleft()
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = job()
            self._save()
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _rest(self) -> None:
        if self._spool.size > LARGEST_SPOOL:
            self._spool.clear()
        with self._wake:
            self._wake.wait_for(
                lambda: self._news or self._jobs or self._stopped, SAVE_SECONDS if self._dirty else None
            )
            self._news = self._hurry = False

    def _save(self) -> None:
        content = {
            "uri": public_uri(self._uri),
            "experiment_id": self._runs.experiment_id,
            "study_run": self._runs.study_run,
            "runs": self._runs.trials(),
        }
        if content != self._saved:
            write_json(self._tracking, content)
        self._saved, self._saved_at, self._dirty = content, time.monotonic(), False
