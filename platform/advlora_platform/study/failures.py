"""Why a trial has no result. Each class of failure is declared here, once, with all that follows from it.

A further class is one more `FailureClass` in `CLASSES`, and a line in `docs/recipes.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from advlora.errors import Diverged, UserError, first_line


@dataclass(frozen=True)
class Failure:
    """Why one trial has no result.

    Attributes:
        kind: Name of its class.
        message: For people.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class FailureClass:
    """A class of failures.

    Attributes:
        name: As ledger, tracker and reports write it.
        final: Whether the same configuration would meet it again; a later launch tries other failures again.
        shared: Whether every worker of a trial meets it at the same step, so that their group can go on together.
        retried: How often the trial is tried again, with new workers, within the same launch.
        matches: Whether an exception in a worker belongs to the class.
        says: From such an exception to the message.
    """

    name: str
    final: bool = False
    shared: bool = False
    retried: int = 0
    matches: Callable[[Exception], bool] = lambda error: False
    says: Callable[[Exception], str] = str


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, (torch.OutOfMemoryError, MemoryError))


LOST_WORKER = FailureClass("lost_worker", retried=2)
"""The workers, or the process of their slot, died; no exception tells why."""

ERROR = FailureClass("error", matches=lambda error: True, says=lambda error: f"{type(error).__name__}: {error}")
"""Whatever no other class matches."""

CLASSES = (
    FailureClass("diverged", final=True, shared=True, matches=lambda error: isinstance(error, Diverged)),
    FailureClass(
        "out_of_memory",
        final=True,
        matches=_is_out_of_memory,
        says=lambda error: first_line(error) if str(error) else "out of memory",
    ),
    FailureClass(
        "user_error",
        matches=lambda error: isinstance(error, UserError),
        says=lambda error: "; ".join(getattr(error, "problems", [str(error)])),
    ),
    LOST_WORKER,
    ERROR,
)
"""In the order in which they are asked."""


def classify(error: Exception) -> Failure:
    """Returns the failure that an exception in a worker means."""
    found = next(each for each in CLASSES if each.matches(error))
    return Failure(found.name, found.says(error))


def class_of(failure: Failure) -> FailureClass:
    """Returns the class of a failure; `ERROR` for a name that another version of this package wrote."""
    return next((each for each in CLASSES if each.name == failure.kind), ERROR)
