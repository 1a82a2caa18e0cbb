"""The mailbox of a slot: trials go in as jobs, reports come out. It outlives the worker group that serves it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from advlora_platform.execution.places import Place
from advlora_platform.execution.tries import DIED, Tries
from advlora_platform.study.failures import Failure
from advlora_platform.study.messages import Failed, Message, Reported

Job = tuple[int, dict[str, Any]]
"""Number, counted from 1, and flat configuration."""
IDLE_SECONDS = 60.0
"""After so many seconds without a job a worker group ends: others may wait for what it holds."""


class Mailbox:
    """One job at a time; what a cancelled job still reports is dropped. Runs as an asynchronous Ray actor."""

    def __init__(self) -> None:
        self._number = self._settled = self._cancelled = 0
        self._tries = Tries()
        self._taken = self._served = False
        self._put = self._fetched = self._decided = 0
        self._places: set[Place] = set()
        self._heard: float | None = None
        self._config: dict[str, Any] = {}
        self._closed = self._dismissed = False
        self._messages: asyncio.Queue[tuple[int, Message]] = asyncio.Queue()
        self._changed = asyncio.Condition()

    async def submit(self, config: dict[str, Any]) -> int:
        """Puts a job in, in place of any earlier one, and returns its number."""
        async with self._changed:
            self._cancelled, self._tries, self._taken = self._number, Tries(), False
            self._number, self._config = self._number + 1, config
            if self._heard is not None:
                self._heard = time.monotonic()
            self._changed.notify_all()
        return self._number

    async def group_started(self) -> None:
        """A worker group begins to serve. The job that an earlier one left unfinished, if any, has lost its workers."""
        self._places, self._heard, self._dismissed = set(), time.monotonic(), False
        await self.fail(self._number, DIED)

    async def enrol(self, place: Place) -> None:
        """A worker of the present group says where it runs."""
        self._places.add(place)

    async def next_job(self) -> Job | None:
        """Waits for a job that is not settled; None when the group is to end, for all of its workers alike."""
        self._heard = time.monotonic()
        async with self._changed:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait_for(lambda: self._dismissed or self._called), IDLE_SECONDS)
            if self._dismissed or not self._called or self._closed:
                self._dismissed, self._heard = True, None
                self._changed.notify_all()
                return None
            self._taken = self._served = True
            self._heard = time.monotonic()
            return self._number, self._config

    async def called(self) -> bool:
        """Waits until there is work for a new worker group; False when the slot closes."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._called)
        return not self._closed

    async def served(self) -> bool:
        """Whether a worker has taken a job since this was asked last."""
        served, self._served = self._served, False
        return served

    async def report(self, number: int, message: Message) -> bool:
        """Takes a report; returns whether the job is still wanted."""
        self._heard = time.monotonic()
        if number != self._number or self._is_cancelled(number):
            return False
        if isinstance(message, Reported):
            self._tries.completed(message.epoch)
        self._put += 1
        await self._messages.put((number, message))
        return True

    async def verdict(self, number: int) -> bool:
        """Waits until Tune has decided about everything that was reported; returns whether the job is still wanted."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._decided >= self._put or number != self._number or self._is_cancelled(number)
            )
        return number == self._number and not self._is_cancelled(number)

    async def fail(self, number: int, failure: Failure, warm: bool = False) -> None:
        """Ends a try of a job, however many workers say so, and the job unless such failures are tried again.

        Args:
            number: The job.
            failure: Why it failed.
            warm: Whether its workers had run other jobs before.
        """
        if number != self._number or number <= self._settled or not self._taken:
            return
        self._taken = False
        ended = self._tries.failed(failure, warm)
        if ended is not None:
            await self.report(number, Failed(ended))
            await self.settle(number)

    async def give_up(self, number: int, failure: Failure) -> None:
        """Ends a try of a job whose workers were killed; a job that they had not taken waits for the next group."""
        await self.fail(number, failure)
        self._heard = None

    async def silence(self) -> float:
        """Returns for how many seconds the workers have said nothing of the job; 0 while there are none, or no job."""
        if self._heard is None or self._settled == self._number:
            return 0.0
        return time.monotonic() - self._heard

    async def places(self) -> set[Place]:
        """Returns where the workers of the present group run."""
        return self._places

    async def settle(self, number: int) -> None:
        """A job is over: it is not handed out again."""
        self._settled = max(self._settled, number)

    async def cancel(self, number: int) -> None:
        """A job is not wanted any more; its workers hear of it at their next report."""
        async with self._changed:
            self._cancelled = max(self._cancelled, number)
            self._changed.notify_all()

    async def next_message(self) -> tuple[int, Message]:
        """Waits for the next report and returns it with the number of its job.

        Whoever asks for it wants the job to go on after all reports before.
        """
        async with self._changed:
            self._decided = self._fetched
            self._changed.notify_all()
        if self._heard is not None:
            self._heard = time.monotonic()
        found = await self._messages.get()
        self._fetched += 1
        return found

    async def close(self) -> None:
        """Ends the worker group after its present epoch."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def _called(self) -> bool:
        """Whether there is something to do: a job, or to go home."""
        return self._closed or self._number > self._settled

    def _is_cancelled(self, number: int) -> bool:
        return self._closed or number <= self._cancelled
