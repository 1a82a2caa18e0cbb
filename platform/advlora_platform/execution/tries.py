"""`Tries`: how often a trial has failed in a row, and whether it is tried again."""

from __future__ import annotations

from dataclasses import dataclass, replace

from advlora_platform.study.failures import LOST_WORKER, Failure, class_of

DIED = Failure(LOST_WORKER.name, "its workers died (killed, or out of memory?)")


@dataclass
class Tries:
    """The tries of one trial within one launch."""

    failures: int = 0
    """Since its last new epoch."""
    epoch: int = 0
    """The last one that was completed."""

    def completed(self, epoch: int) -> None:
        """A trial that gets on counts from zero again: the tries before were not in vain."""
        if epoch > self.epoch:
            self.epoch, self.failures = epoch, 0

    def failed(self, failure: Failure, warm: bool) -> Failure | None:
        """Counts a failure; returns it as the end of the trial, or None if the trial is to be tried again.

        Args:
            failure: Why the try failed.
            warm: Whether its worker had run other trials before.
        """
        if warm and class_of(failure).fresh:
            return None  # the next worker is a fresh one
        self.failures += 1
        if self.failures <= class_of(failure).retried:
            return None
        tried = f"; tried {self.failures} times" if self.failures > 1 else ""
        return replace(failure, message=f"{failure.message}{tried}")
