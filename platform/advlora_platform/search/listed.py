"""A fixed list of trials as a Tune searcher."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from advlora_platform.search.contract import StudySearcher
from advlora_platform.study.ledger import Record
from advlora_platform.study.trials import Trial, to_tune


class ListSearcher(StudySearcher):
    """Hands out given trials, each once."""

    def __init__(self, trials: Sequence[Trial], records: Iterable[Record]) -> None:
        super().__init__()
        settled = {record.trial_id for record in records if record.settled}
        self._left = [trial for trial in trials if trial.id not in settled]
        self._total, self._remaining = len(trials), len(self._left)

    @property
    def total(self) -> int:
        """Number of trials."""
        return self._total

    @property
    def remaining(self) -> int:
        """How many of them are not settled."""
        return self._remaining

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Returns the next trial."""
        return to_tune(self._left.pop(0)) if self._left else str(self.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Counts down; the list is fixed, whatever the result."""
        self._remaining -= 1
