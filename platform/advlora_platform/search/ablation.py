"""An ablation as a Tune searcher: hands out the trials that are left, tuning before seeds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from advlora_platform.search.contract import StudySearcher
from advlora_platform.search.plan import ArmPlan, plan_arms, scores_of
from advlora_platform.study.ablation import AblationStudy
from advlora_platform.study.ledger import Record
from advlora_platform.study.messages import Reported, from_tune, tune_name
from advlora_platform.study.trials import Trial, TrialFactory, to_tune


class PlanSearcher(StudySearcher):
    """Suggests what `plan_arms` lists and the ledger does not have."""

    def __init__(self, study: AblationStudy, factory: TrialFactory, records: Iterable[Record]) -> None:
        self._selecting = str(study.objectives()[0])
        super().__init__(metric=tune_name(self._selecting), mode="max")
        self._study, self._factory = study, factory
        self._scores = scores_of(study, records)
        self._running: dict[str, Trial] = {}

    @property
    def total(self) -> int:
        """Number of trials of the study."""
        return sum(plan.budget + len(self._study.seeds) for plan in self._plans())

    @property
    def remaining(self) -> int:
        """How many of them are not settled."""
        settled = (trial.id in self._scores for plan in self._plans() for trial in (*plan.tuning, *plan.trials))
        return self.total - sum(settled)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns the next trial; None while all that can be decided runs already."""
        busy = {trial.id for trial in self._running.values()}
        left = [
            trial for plan in self._plans() for trial in (*plan.tuning, *plan.trials) if trial.id not in self._scores
        ]
        ready = next((trial for trial in left if trial.id not in busy), None)
        if ready is None:
            return None if left else self.FINISHED
        self._running[trial_id] = ready
        return to_tune(ready)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Takes the result of a trial; one that failed is not handed out again."""
        trial, last = self._running.pop(trial_id, None), from_tune(result)
        if trial is not None:
            self._scores[trial.id] = last.metrics.get(self._selecting) if isinstance(last, Reported) else None

    def _plans(self) -> list[ArmPlan]:
        return plan_arms(self._study, self._factory, self._scores)
