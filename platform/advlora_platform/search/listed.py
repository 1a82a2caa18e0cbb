"""A fixed list of trials as a Tune searcher."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ray.tune.search import Searcher

from advlora_platform.study.ledger import Record
from advlora_platform.study.trials import Trial, to_tune


class ListSearcher(Searcher):
    """Hands out given trials, each once.

    Attributes:
        total: Number of trials.
        remaining: How many of them are not settled.
    """

    def __init__(self, trials: Sequence[Trial], records: Iterable[Record]) -> None:
        super().__init__()
        settled = {record.trial_id for record in records if record.settled}
        self._left = [trial for trial in trials if trial.id not in settled]
        self.total, self.remaining = len(trials), len(self._left)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Returns the next trial."""
        return to_tune(self._left.pop(0)) if self._left else str(self.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Learns nothing: the list is fixed."""

    def save(self, checkpoint_path: str) -> None:
        """Saves nothing: the ledger knows all."""

    def restore(self, checkpoint_path: str) -> None:
        """Restores nothing: the ledger knows all."""
