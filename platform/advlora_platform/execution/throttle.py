"""A study takes as many trials as the cluster has room for at this moment, and says what it waits for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.tune.search import ConcurrencyLimiter

from advlora_platform.execution.occupancy import Occupancy
from advlora_platform.search.contract import StudySearcher

REFRESH_SECONDS = 5.0
"""How old the view of the cluster may be."""
MANY = 1000
"""Trials at once where the study sets no bound."""
PATIENCE = 30.0
"""Seconds of waiting until it is told; then at twice as many, and so on."""


class Throttle(ConcurrencyLimiter):
    """Holds a searcher back while there is no room for another trial.

    What waits in Tune's queue would be drawn before the results that it should follow from. One trial may always wait:
    it gets what becomes free first, and tells an autoscaler what is needed.
    """

    def __init__(self, searcher: StudySearcher, room: Callable[[], int | None], bound: int | None = None) -> None:
        """Takes the searcher, how many trials there is room for (None: as before), and how many the study wants."""
        super().__init__(searcher, max_concurrent=bound or MANY)
        self._room, self._bound = room, bound or MANY
        self._known, self._due = 1, 0.0

    def suggest(self, trial_id: str) -> Any:
        """Returns the searcher's suggestion, or None while there is no room."""
        if time.monotonic() >= self._due:
            room = self._room()
            self._known = self._known if room is None else max(1, min(room, self._bound))
            self.max_concurrent = self._known  # until now it told Tune how many slots may start at once
            self._due = time.monotonic() + REFRESH_SECONDS
        return super().suggest(trial_id)

    def get_state(self) -> dict[str, Any]:
        """Saves nothing: the study folder holds everything."""
        return {}


class Watch:
    """Tells now and then what a study has been waiting for since it last got something."""

    def __init__(self, seen: Callable[[], Occupancy | None], tell: Callable[[str], None]) -> None:
        """Takes who looks at the cluster (None: no answer), and who is told."""
        self._seen, self._tell = seen, tell
        self._due = self._since = time.monotonic()
        self._held, self._next = 0, PATIENCE

    def look(self) -> None:
        """Looks at the cluster, unless it did just now; may be called at every turn."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + REFRESH_SECONDS
        seen = self._seen()
        if seen is None:
            return
        lack, held = seen.lack(), len(seen.held)
        if not lack or held > self._held:
            self._since, self._next = now, PATIENCE
        elif now - self._since >= self._next:
            self._tell(f"waiting for {lack}, since {_spoken(now - self._since)}")
            self._next = 2 * (now - self._since)
        self._held = held


def _spoken(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
