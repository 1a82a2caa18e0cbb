"""An ablation as a Tune searcher: hands out the trials that are left, tuning before seeds."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from advlora_platform.search.contract import StudySearcher
from advlora_platform.search.plan import planners, scores_of
from advlora_platform.study.ablation import AblationStudy
from advlora_platform.study.ledger import Record
from advlora_platform.study.messages import Reported, from_tune
from advlora_platform.study.trials import Trial, TrialFactory, to_tune


class PlanSearcher(StudySearcher):
    """Suggests what the plans of the arms list and the ledger does not have, in their order.

    A result brings forward the arms that it belongs to, and those that wait for another one's tuning: a study of 10,000
    trials would otherwise be planned 10,000 times.
    """

    def __init__(self, study: AblationStudy, factory: TrialFactory, records: Iterable[Record]) -> None:
        super().__init__()
        self._selecting = str(study.objectives()[0])
        self._scores = scores_of(study, records)
        self._planners = planners(study, factory)
        self._listed = [0] * len(self._planners)
        self._places: dict[str, list[int]] = defaultdict(list)
        self._ready: list[tuple[int, int, Trial]] = []
        self._running: dict[str, Trial] = {}
        self._total = sum(planner.budget + len(study.seeds) for planner in self._planners)
        self._remaining = self._total
        for number in range(len(self._planners)):
            self._bring_forward(number)

    @property
    def total(self) -> int:
        """Number of trials of the study."""
        return self._total

    @property
    def remaining(self) -> int:
        """How many of them are not settled."""
        return self._remaining

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns the next trial; None while all that can be decided runs already."""
        busy = {trial.id for trial in self._running.values()}
        while self._ready:
            *_, trial = heapq.heappop(self._ready)
            if trial.id not in self._scores and trial.id not in busy:
                self._running[trial_id] = trial
                return to_tune(trial)
        return None if self._remaining else self.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Takes the result of a trial; one that failed is not handed out again."""
        trial, last = self._running.pop(trial_id, None), from_tune(result)
        if trial is None:
            return
        self._scores[trial.id] = last.metrics.get(self._selecting) if isinstance(last, Reported) else None
        self._remaining -= len(self._places[trial.id])
        waiting = {number for number, each in enumerate(self._planners) if each.waits and not self._listed[number]}
        for number in {*self._places[trial.id], *waiting}:
            self._bring_forward(number)

    def _bring_forward(self, number: int) -> None:
        """Lists the trials of an arm that have become known."""
        plan = self._planners[number].plan(self._scores)
        trials = (*plan.tuning, *plan.trials)
        for place, trial in enumerate(trials[self._listed[number] :], start=self._listed[number]):
            self._places[trial.id].append(number)
            if trial.id in self._scores:
                self._remaining -= 1
            else:
                heapq.heappush(self._ready, (number, place, trial))
        self._listed[number] = len(trials)
