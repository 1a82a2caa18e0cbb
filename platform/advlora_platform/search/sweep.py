"""A sweep as a Tune searcher: Optuna over a conditional space, continued from the ledger and from Optuna's journal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna

from advlora.errors import ConfigError
from advlora_platform.search.contract import StudySearcher
from advlora_platform.search.journal import ARM, Journal
from advlora_platform.search.space import distributions, grid, read_point
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.ledger import Record
from advlora_platform.study.messages import Failed, Reported, from_tune
from advlora_platform.study.sweep import SweepStudy
from advlora_platform.study.trials import TrialFactory, to_tune

REPEATS = 100
"""After this many suggestions in a row that were known already, the space counts as exhausted."""


class SweepSearcher(StudySearcher):
    """Suggests the trials of a sweep: first those that were interrupted, then the known-good points, then new ones.

    Optuna draws; here it is kept that no trial is run twice, that none is lost, and that the search ends in time.
    """

    def __init__(
        self, study: SweepStudy, factory: TrialFactory, records: Sequence[Record], folder: StudyFolder
    ) -> None:
        super().__init__()
        self._study, self._factory = study, factory
        settled = [record for record in records if record.settled]
        self._interrupted = [record for record in records if not record.settled]
        self._points = _fresh(_points(study), records)
        self._known = {record.trial_id for record in settled}
        self._left = max(planned_trials(study) - len(settled), len(self._interrupted))
        self._total = len(settled) + self._left
        self._running: dict[str, optuna.Trial] = {}
        self._begin, self._spent = time.time(), running_seconds(records)
        self._journal = Journal(study, factory, folder)
        self._journal.catch_up(settled)

    @property
    def total(self) -> int:
        """Number of trials of the search."""
        return self._total

    @property
    def remaining(self) -> int:
        """How many of them are not settled; 0 as well when budget or space is exhausted and nothing runs."""
        return self._left + len(self._running)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Returns a trial that was not finished yet; ends with the number of trials, the budget or the space.

        What was interrupted goes on whatever the budget says: most of it is paid for already.
        """
        if self._interrupted:
            return self._continue(trial_id, self._interrupted.pop(0))
        if self._over_budget():
            self._left = 0
        for draw in range(REPEATS if self._left else 0):
            suggested = self._draw(trial_id, draw)
            if suggested is not None:
                return suggested
        self._left = 0
        return str(self.FINISHED)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tells an epoch by its number, from which trials that are stopped early are judged."""
        said = from_tune(result)
        if isinstance(said, Reported):
            self._journal.report(self._running[trial_id], said.epoch, said.metrics)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells a final result as complete, an early end as pruned, and a failure as what it says of the space."""
        trial, last = self._running.pop(trial_id), from_tune(result)
        if error or not isinstance(last, Reported):
            self._journal.tell(trial, "failed", {}, last.failure if isinstance(last, Failed) else None)
            return
        self._journal.report(trial, last.epoch, last.metrics)  # Tune tells the last result here alone
        self._journal.tell(trial, "done" if last.final else "stopped", last.metrics)

    def _continue(self, trial_id: str, record: Record) -> dict[str, Any]:
        """Hands out a trial that has begun; its worker finds the checkpoint."""
        place = (len(self._known), 0)
        trial, values = self._journal.ask(place, record.values)
        self._journal.report_history(trial, record)
        return self._hand_out(trial_id, trial, values)

    def _draw(self, trial_id: str, draw: int) -> dict[str, Any] | None:
        point = self._points.pop(0) if self._points else None
        trial, values = self._journal.ask((len(self._known), draw), point)
        if self._factory.trial(ARM, self._study.seed, values, "search").id in self._known:
            self._journal.drop(trial, "known already")
            return None
        return self._hand_out(trial_id, trial, values)

    def _hand_out(self, trial_id: str, trial: optuna.Trial, values: Mapping[str, Any]) -> dict[str, Any]:
        ours = self._factory.trial(ARM, self._study.seed, values, "search")
        self._journal.name(trial, ours.id)
        self._known.add(ours.id)
        self._running[trial_id] = trial
        self._left -= 1
        return to_tune(ours)

    def _over_budget(self) -> bool:
        budget = self._study.budget_seconds
        return budget is not None and self._spent + time.time() - self._begin > budget


def planned_trials(study: SweepStudy) -> int:
    """Returns how many trials a search has: as many as it allows, or as its grid has points."""
    trials = study.search.trials
    return min(trials, len(grid(study.parameters))) if study.search.sampler == "grid" else trials


def belonging(study: SweepStudy, factory: TrialFactory, records: Iterable[Record]) -> list[Record]:
    """Returns the records of this sweep; its folder may hold those of an earlier space or protocol."""
    return [record for record in records if _belongs(study, factory, record)]


def _belongs(study: SweepStudy, factory: TrialFactory, record: Record) -> bool:
    if record.phase != "search":
        return False
    try:
        trial = factory.trial(ARM, study.seed, record.values, "search")
        known = distributions(study.parameters, record.values)
    except (ConfigError, ValueError):
        return False
    return trial.id == record.trial_id and set(known) == set(record.values)


def running_seconds(records: Iterable[Record]) -> float:
    """Returns for how long at least one trial ran; pauses between launches do not count."""
    total, until = 0.0, 0.0
    for began, ended in sorted(span for record in records for span in record.spans):
        if ended > until:
            total += ended - max(began, until)
            until = ended
    return total


def _points(study: SweepStudy) -> list[dict[str, Any]]:
    if study.search.sampler == "grid":
        return grid(study.parameters)
    return [read_point(study.parameters, point) for point in study.points]


def _fresh(points: Sequence[dict[str, Any]], records: Iterable[Record]) -> list[dict[str, Any]]:
    """Leaves out the points that were begun: those whose every value a record has."""
    tried = [record.values for record in records]
    return [point for point in points if not any(point.items() <= values.items() for values in tried)]
