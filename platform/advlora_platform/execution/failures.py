"""From an exception in a worker to the class of the failure."""

from __future__ import annotations

import torch

from advlora.errors import Diverged, UserError
from advlora_platform.study.observer import Failure

SHARED = ("diverged",)
"""Failures that every worker of a trial meets at the same step, so that the group can go on together."""


def classify(error: Exception) -> Failure:
    """Says why a trial ends without a result."""
    if isinstance(error, Diverged):
        return Failure("diverged", str(error))
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return Failure("out_of_memory", str(error).splitlines()[0] if str(error) else "out of memory")
    if isinstance(error, UserError):
        return Failure("user_error", "; ".join(error.problems))
    return Failure("error", f"{type(error).__name__}: {error}")
