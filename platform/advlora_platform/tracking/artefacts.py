"""Artefacts, whose store is not that of the metrics: it may fail alone, and then costs nothing but the artefacts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

ATTEMPTS = 5
"""After how many failures in a row, while the store of the metrics answers, artefacts are given up."""
REST_SECONDS = 600.0
"""How long an artefact store that cannot be written is left alone."""

logger = logging.getLogger("advlora")


class ArtefactError(Exception):
    """An artefact could not be written."""


class Artefacts:
    """Says whether artefacts are written at present."""

    def __init__(self) -> None:
        """Trusts the artefact store at first."""
        self._again_at = 0.0
        self._failures = 0
        self._said = False

    def write(self, call: Callable[[], None]) -> bool:
        """Writes one by the given call; returns whether it did, which it does not while their store rests.

        Raises:
            ArtefactError: If the call fails.
        """
        if time.monotonic() < self._again_at:
            return False
        try:
            call()
        except Exception as error:
            self._failures += 1
            raise ArtefactError(str(error).strip() or type(error).__name__) from error
        self._failures = 0
        return True

    @property
    def hopeless(self) -> bool:
        """Whether enough attempts in a row have failed."""
        return self._failures >= ATTEMPTS

    def rest(self, why: str) -> None:
        """Goes on without artefacts for a while, and says so once."""
        if not self._said:
            logger.warning("MLflow takes no artefacts (%s); everything else is tracked without them", why)
        self._said, self._failures = True, 0
        self._again_at = time.monotonic() + REST_SECONDS
