"""A sweep as a Tune searcher: `OptunaSearch` over a conditional space, continued from the ledger."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from ray.tune.search.optuna import OptunaSearch

from advlora.errors import ConfigError
from advlora_platform.search.contract import StudySearcher
from advlora_platform.search.samplers import build_sampler
from advlora_platform.search.space import distributions, grid, read_point, suggest
from advlora_platform.study.ledger import Record
from advlora_platform.study.messages import Failed, Reported, from_tune, tune_name
from advlora_platform.study.parameters import Space
from advlora_platform.study.sweep import SweepStudy
from advlora_platform.study.trials import TrialFactory, to_tune

ARM = "search"
REPEATS = 100
"""After this many suggestions in a row that were known already, the space counts as exhausted."""


@dataclass(frozen=True)
class DefineByRun:
    """The space as the function that `OptunaSearch` calls; a class, because the searcher is pickled."""

    space: Space

    def __call__(self, trial: optuna.Trial) -> None:
        """Draws the parameters of a trial."""
        suggest(trial, self.space)


class SweepSearcher(StudySearcher, OptunaSearch):
    """Suggests trials of a sweep.

    What `OptunaSearch` lacks: trials of earlier launches, trials that were stopped early told as pruned (their last
    value is not comparable with a final one), no trial twice, and an end in time.
    """

    def __init__(self, study: SweepStudy, factory: TrialFactory, records: Sequence[Record]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study_spec, self._factory = study, factory
        settled = [record for record in records if record.settled]
        self._known = {record.trial_id for record in settled}
        self._begin, self._spent = time.time(), running_seconds(records)
        self._left, self._running = max(planned_trials(study) - len(settled), 0), 0
        objectives = study.objectives()
        names = [tune_name(str(metric)) for metric in objectives]
        directions = [metric.direction for metric in objectives]
        super().__init__(
            space=DefineByRun(study.parameters),
            metric=names if len(names) > 1 else names[0],
            mode=directions if len(names) > 1 else directions[0],
            # Another seed at every launch: the same one would repeat the draws that are known already.
            sampler=build_sampler(study.search.sampler, study.search.seed + len(settled)),
            points_to_evaluate=_fresh(_points(study), settled),
        )
        for record in settled:
            self._ot_study.add_trial(frozen_trial(study, record))

    @property
    def total(self) -> int:
        """Number of trials of the search."""
        return planned_trials(self._study_spec)

    @property
    def remaining(self) -> int:
        """How many of them are not settled; 0 as well when budget or space is exhausted and nothing runs."""
        return self._left + self._running

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Returns a trial that was not run yet; ends with the number of trials, the budget or the space."""
        if self._over_budget():
            self._left = 0
        for _ in range(REPEATS if self._left else 0):
            values = super().suggest(trial_id)
            trial = self._factory.trial(ARM, self._study_spec.seed, values, "search")
            if trial.id not in self._known:
                self._known.add(trial.id)
                self._left, self._running = self._left - 1, self._running + 1
                return to_tune(trial)
            self._ot_study.tell(self._ot_trials.pop(trial_id), state=optuna.trial.TrialState.FAIL)
        self._left = 0
        return str(self.FINISHED)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tells intermediate values, from which pruned trials are judged; not every epoch is evaluated."""
        if isinstance(self.metric, str) and self.metric in result:
            super().on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells a final result as complete, an early end as pruned, and a failure as failed."""
        last = from_tune(result)
        final, failed = isinstance(last, Reported) and last.final, error or isinstance(last, Failed)
        super().on_trial_complete(trial_id, result if final and not failed else None, error=failed)
        self._running -= 1

    def _over_budget(self) -> bool:
        budget = self._study_spec.budget_seconds
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


def frozen_trial(study: SweepStudy, record: Record) -> optuna.trial.FrozenTrial:
    """Returns a settled record as a trial of Optuna."""
    metrics = [str(metric) for metric in study.objectives()]
    states = {"done": optuna.trial.TrialState.COMPLETE, "stopped": optuna.trial.TrialState.PRUNED}
    single = len(metrics) == 1
    epochs = {int(entry["epoch"]): entry[metrics[0]] for entry in record.history if metrics[0] in entry}
    return optuna.trial.create_trial(
        state=states.get(record.status, optuna.trial.TrialState.FAIL),
        values=[record.metrics[name] for name in metrics] if record.status == "done" else None,
        params=record.values,
        distributions=distributions(study.parameters, record.values),
        intermediate_values=epochs if single else None,
    )


def running_seconds(records: Iterable[Record]) -> float:
    """Returns for how long at least one trial ran; pauses between launches do not count."""
    total, until = 0.0, 0.0
    for record in sorted(records, key=lambda record: record.began):
        if record.ended is not None and record.ended > until:
            total += record.ended - max(record.began, until)
            until = record.ended
    return total


def _points(study: SweepStudy) -> list[dict[str, Any]]:
    if study.search.sampler == "grid":
        return grid(study.parameters)
    return [read_point(study.parameters, point) for point in study.points]


def _fresh(points: Sequence[dict[str, Any]], settled: Iterable[Record]) -> list[dict[str, Any]]:
    """Leaves out the points that were run: those whose every value a record has."""
    tried = [record.values for record in settled]
    return [point for point in points if not any(point.items() <= values.items() for values in tried)]
