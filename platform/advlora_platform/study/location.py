"""Which places cannot hold what a study writes."""

from __future__ import annotations

import re
from pathlib import Path

from advlora.errors import UserError

JOB_CACHE = "runtime_resources"
"""Folder below which Ray unpacks the working folder of a job, on every node another one, and deletes it later."""


def check_location(path: Path, what: str, remedy: str) -> None:
    """Refuses an object store and the working folder of a Ray job.

    Args:
        path: Where something will be written.
        what: What that is, for the message.
        remedy: What to do instead.

    Raises:
        UserError: If it is such a place.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise UserError(f"{what} '{path}' names an object store, but a file system is needed; {remedy}")
    if JOB_CACHE in path.resolve().parts:
        raise UserError(f"{what} '{path}' lies where Ray unpacks a job, and will be deleted with it; {remedy}")
