"""The lease: one driver per study folder, so that no trial is run twice and no record is written by two."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from advlora.errors import UserError
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.holder import Holder
from advlora_platform.study.lease_file import LeaseFile

STALE_SECONDS = 120.0
"""After this long without a sign of life, a driver that cannot be seen from here counts as dead."""
RENEWALS = 24
"""Signs of life in that time."""
ATTEMPTS = 100
ATTEMPT_SECONDS = 0.05
POLL_SECONDS = 1.0
log = logging.getLogger(__name__)


class Lease:
    """Held while a driver works on a study; a thread gives signs of life from the first moment to the last.

    Two locks, for neither serves everywhere. A lock of the operating system ends with its process, but may not reach
    another machine on shared storage. A file reaches all of them, and says who drives; its holder counts as alive while
    its process runs where that can be seen, and elsewhere while it gives signs of life.
    """

    def __init__(self, folder: StudyFolder, *, wait: bool = False, stale_seconds: float = STALE_SECONDS) -> None:
        """Prepares the lease of a folder; nothing is written yet.

        Args:
            folder: The study folder.
            wait: Whether to wait for a living driver, rather than to refuse.
            stale_seconds: The same for all drivers of the folder.
        """
        self._folder, self._wait, self._stale = folder.path, wait, stale_seconds
        self._file, self._me = LeaseFile(folder.lease), Holder.me()
        # Where the storage has no locks, the library's own substitute would outlive a killed process.
        self._lock = FileLock(folder.lease.with_suffix(".lock"), fallback_to_soft=False, thread_local=False)
        self._over, self._lost = threading.Event(), False
        self._told: set[str] = set()
        self._given_up: tuple[str, float] | None = None
        self._keeper = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        """Takes the lease.

        Raises:
            UserError: If another living driver holds it, and waiting was not asked for.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        while not self._taken():
            driver = f"another {self._file.holder() or 'process'} drives the study in {self._folder}"
            if not self._wait:
                raise UserError(f"{driver}; wait for it with --wait, stop it, or choose another folder with --out")
            self._tell(f"{driver}; waiting until it ends")
            time.sleep(POLL_SECONDS)
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._keeper.join()
        try:
            self._lost |= not self._file.withdraw(self._me)
        except OSError as failure:
            log.warning("the lease in %s could not be freed: %s", self._folder, failure)
        self._lock.release()
        if self._lost and (error is None or isinstance(error, Exception)):
            raise UserError(self._loss()) from error  # whatever came of it, this is the reason

    def check(self) -> None:
        """Stops a driver that has lost its lease; cheap, so it may be called at every event.

        Raises:
            UserError: If another driver has taken the study over.
        """
        if self._lost:
            raise UserError(self._loss())

    def _loss(self) -> str:
        return (
            f"another {self._file.holder() or 'process'} has taken over the study in {self._folder}, because this one "
            f"gave no sign of life for {self._stale:.0f} seconds; this one stops"
        )

    def _tell(self, line: str) -> None:
        if line not in self._told:
            log.warning(line)
        self._told.add(line)

    def _keep(self) -> None:
        while not self._lost and not self._over.wait(self._stale / RENEWALS):
            try:
                self._lost = not self._file.renew(self._me)
            except OSError:
                continue  # the storage does not answer just now; the run itself will say so, if it stays so

    def _taken(self) -> bool:
        """Tries until this process has the lease, or another living one."""
        for _ in range(ATTEMPTS):
            holder = self._file.holder()
            if holder is not None and self._lives(holder):
                return False
            if self._locked() and self._published(holder):
                return True
            time.sleep(ATTEMPT_SECONDS)  # another one is just taking it
        return False

    def _published(self, dead: Holder | None) -> bool:
        """Makes this process the holder; frees the lock where it is not, be it because the storage is full."""
        published = False
        try:
            published = self._file.publish(self._me, dead)
        finally:
            if not published:
                self._lock.release()
        return published

    def _locked(self) -> bool:
        """Takes the lock of the operating system; without one, the file alone decides."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        except OSError:
            log.debug("no file locks in %s", self._folder)
        return True

    def _lives(self, holder: Holder) -> bool:
        if holder.near:
            return holder.runs
        if (holder.token, holder.renewed) == self._given_up:
            return False
        self._tell(f"the study in {self._folder} was driven by a {holder}; waiting for a sign of life")
        # The storage's clock may have been set: however old the last sign is, the next two are waited for.
        patience = max(self._stale - abs(self._file.silence(holder)), 2 * self._stale / RENEWALS)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            time.sleep(min(POLL_SECONDS, self._stale / RENEWALS))
            now = self._file.holder()
            if now is None or now != holder or now.renewed != holder.renewed:
                return now is not None
        self._given_up = (holder.token, holder.renewed)
        return False
