"""Why a trial has no result. Each class of failure is declared here, once, with all that follows from it.

A further class is one more `FailureClass` in `CLASSES`, and an entry in `docs/architecture.md`.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from advlora.errors import Diverged, NotFinite, UserError, first_line


@dataclass(frozen=True)
class Failure:
    """Why one trial has no result.

    Attributes:
        kind: Name of its class.
        message: For people.
        traceback: Where it happened; empty where no exception tells. The ledger keeps it in a file of its own.
    """

    kind: str
    message: str
    traceback: str = ""

    @property
    def text(self) -> str:
        """All that is known, as the content of a file."""
        return "\n\n".join(filter(None, (f"{self.kind}: {self.message}", self.traceback.rstrip()))) + "\n"


@dataclass(frozen=True)
class FailureClass:
    """A class of failures.

    Attributes:
        name: As ledger, tracker and reports write it.
        final: Whether the same configuration would meet it again; the next launch tries other failures again.
        stops: Whether other trials would meet it too, so that the study stops until the user has fixed it.
        shared: Whether every worker of a trial meets it at the same step, so that their group can go on together.
        fresh: Whether it counts only in a process that has run no other trial, whose remains may be at fault.
        retried: How often the trial is tried again, with new workers, within the same launch; epochs that were
            completed between two failures make the count begin anew.
        silence: Seconds without a message after which a trial counts as failed this way; None where messages do not
            matter. `ADVLORA_<NAME>_AFTER` overrides it.
        matches: Whether an exception in a worker belongs to the class.
        says: From such an exception to the message.
    """

    name: str
    final: bool = False
    stops: bool = False
    shared: bool = False
    fresh: bool = False
    retried: int = 0
    silence: float | None = None
    matches: Callable[[Exception], bool] = lambda error: False
    says: Callable[[Exception], str] = str

    @property
    def variable(self) -> str:
        """The environment variable that overrides `silence`."""
        return f"ADVLORA_{self.name.upper()}_AFTER"


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, (torch.OutOfMemoryError, MemoryError))


LOST_WORKER = FailureClass("lost_worker", retried=2)
"""The workers, or the process of their slot, died; no exception tells why."""

ERROR = FailureClass(
    "error", retried=1, matches=lambda error: True, says=lambda error: f"{type(error).__name__}: {error}"
)
"""Whatever no other class matches: a driver or a storage that failed once, or a bug, which fails again."""

CLASSES = (
    FailureClass("diverged", final=True, shared=True, matches=lambda error: isinstance(error, Diverged)),
    FailureClass(
        "out_of_memory",
        final=True,
        fresh=True,
        matches=_is_out_of_memory,
        says=lambda error: first_line(error) if str(error) else "out of memory",
    ),
    FailureClass(
        "no_space",
        stops=True,
        matches=lambda error: isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT),
    ),
    FailureClass("not_finite", final=True, matches=lambda error: isinstance(error, NotFinite)),
    FailureClass(
        "user_error",
        stops=True,
        matches=lambda error: isinstance(error, UserError),
        says=lambda error: "; ".join(getattr(error, "problems", [str(error)])),
    ),
    # Longer than any epoch with its evaluation should take; collectives of several workers time out by themselves.
    FailureClass("stalled", retried=1, silence=6 * 3600.0),
    LOST_WORKER,
    ERROR,
)
"""In the order in which they are asked."""


def classify(error: Exception) -> Failure:
    """Returns the failure that an exception in a worker means."""
    found = next(each for each in CLASSES if each.matches(error))
    return Failure(found.name, found.says(error), "".join(traceback.format_exception(error)))


def class_of(failure: Failure) -> FailureClass:
    """Returns the class of a failure; `ERROR` for a name that another version of this package wrote."""
    return next((each for each in CLASSES if each.name == failure.kind), ERROR)


def silences() -> dict[str, float]:
    """Returns, by class of failure, after how many seconds without a message a trial has failed.

    Raises:
        UserError: If the environment overrides one with something that is not a number of seconds.
    """
    return {each.name: _seconds(each.variable, each.silence) for each in CLASSES if each.silence is not None}


def overdue(silent: float, limits: Mapping[str, float]) -> Failure | None:
    """Returns the failure of a trial that sent no message for so many seconds; None while it may take its time."""
    passed = {name: limit for name, limit in limits.items() if silent > limit}
    if not passed:
        return None
    name = min(passed, key=lambda each: passed[each])
    return Failure(name, f"no report for {silent:.0f} s (more than {passed[name]:g} s)")


def _seconds(variable: str, default: float) -> float:
    text = os.environ.get(variable, "")
    try:
        seconds = float(text or default)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise UserError(f"environment variable {variable} must be a number of seconds above 0, not '{text}'")
    return seconds
