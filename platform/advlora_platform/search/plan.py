"""What an ablation still has to run: tuning inside every arm, then every arm with every seed.

What comes next follows from what is settled alone, so that a continued study takes the same decisions as an
uninterrupted one. No step is taken twice: a large ablation costs a driver no more per trial than a small one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import optuna

from advlora_platform.search.samplers import build_sampler
from advlora_platform.search.space import grid, remaining, suggest
from advlora_platform.study.ablation import AblationStudy, Arm, TuningConfig, arms, reference_arm
from advlora_platform.study.ledger import Record
from advlora_platform.study.trials import Trial, TrialFactory

Scores = Mapping[str, float | None]
"""Trial id -> selecting metric of a settled trial; None where it has none because it failed."""


@dataclass(frozen=True)
class ArmPlan:
    """The trials of one arm, as far as they are known.

    Attributes:
        arm: The row of the ablation table.
        tuning: Tuning trials in order: the settled ones, and the next one if tuning is not finished.
        tuned: The chosen nuisance values; empty where nothing is tuned, None until tuning is finished.
        trials: One per seed, in the study's order; empty until tuning is finished.
        budget: How many tuning trials the arm has in all.
        again: Whether it repeats an arm of its own tuning, with the values of the reference instead.
    """

    arm: Arm
    tuning: tuple[Trial, ...]
    tuned: dict[str, Any] | None
    trials: tuple[Trial, ...]
    budget: int
    again: bool = False


def scores_of(study: AblationStudy, records: Iterable[Record]) -> dict[str, float | None]:
    """Returns the selecting metric of every settled record."""
    metric = str(study.objectives()[0])
    return {
        record.trial_id: record.metrics.get(metric) if record.status == "done" else None
        for record in records
        if record.settled
    }


def plan_arms(study: AblationStudy, factory: TrialFactory, scores: Scores) -> list[ArmPlan]:
    """Returns the trials of every arm, given what is settled."""
    return [planner.plan(scores) for planner in planners(study, factory)]


def planners(study: AblationStudy, factory: TrialFactory) -> list[Planner]:
    """Returns what plans the arms, in their order; then, where a study wants both, those with held values."""
    listed = arms(study)
    own = [Planner(study, factory, arm) for arm in listed]
    if study.tuning is None or study.tuning.mode == "retuned":
        return own
    place = listed.index(reference_arm(study))
    if study.tuning.mode == "held":
        return [
            each if number == place else Planner(study, factory, arm, own[place])
            for number, (arm, each) in enumerate(zip(listed, own, strict=True))
        ]
    others = [replace(arm, name=held_name(arm.name)) for number, arm in enumerate(listed) if number != place]
    return own + [Planner(study, factory, arm, own[place], again=True) for arm in others]


def held_name(arm: str) -> str:
    """Names the arm that repeats another one with the values of the reference."""
    return f"{arm} (held)"


def tuning_of(study: AblationStudy, arm: Arm) -> TuningConfig | None:
    """Returns what is tuned in an arm: nothing where nothing is trained, and only what its methods take.

    Raises:
        ConfigError: If the arm is impossible.
    """
    if study.tuning is None or not study.trial_with(arm.values).adapter.trains:
        return None
    free = remaining(study.tuning.parameters, study.base, arm.values)
    # A grid ends with its points, and in an arm with fewer parameters it has fewer of them.
    trials = min(study.tuning.trials, len(grid(free))) if study.tuning.sampler == "grid" else study.tuning.trials
    return study.tuning.model_copy(update={"parameters": free, "trials": trials}) if free else None


class Planner:
    """Plans one arm, as far as results allow; asked again with more of them, it goes on from there."""

    def __init__(
        self,
        study: AblationStudy,
        factory: TrialFactory,
        arm: Arm,
        holds: Planner | None = None,
        *,
        again: bool = False,
    ) -> None:
        """Plans an arm that is tuned itself, or that `holds` the values for which another one was tuned."""
        self._arm, self._factory, self._seeds, self._again = arm, factory, study.seeds, again
        tuning = tuning_of(study, arm)
        self._keys = set() if tuning is None else set(tuning.parameters)
        self._owns = holds is None
        self._tuning: _Tuning | None = None
        if tuning is not None:
            self._tuning = _Tuning(tuning, factory, arm) if holds is None else holds._tuning
        self._trials: tuple[Trial, ...] = ()
        self.budget = tuning.trials if tuning is not None and self._owns else 0
        """How many tuning trials the arm has in all."""

    @property
    def waits(self) -> bool:
        """Whether its trials depend on the tuning of another arm."""
        return self._tuning is not None and not self._owns

    def plan(self, scores: Scores) -> ArmPlan:
        """Returns the trials that are known, given what is settled; what was settled stays so."""
        tuned = {} if self._tuning is None else self._tuning.advance(scores)
        tuned = None if tuned is None else {key: value for key, value in tuned.items() if key in self._keys}
        tried = tuple(self._tuning.tried) if self._tuning is not None and self._owns else ()
        trials = () if tuned is None else self._seed_trials(tuned)
        return ArmPlan(self._arm, tried, tuned, trials, self.budget, self._again)

    def _seed_trials(self, tuned: Mapping[str, Any]) -> tuple[Trial, ...]:
        values = {**self._arm.values, **tuned}
        self._trials = self._trials or tuple(
            self._factory.trial(self._arm.name, seed, values, "ablate") for seed in self._seeds
        )
        return self._trials


class _Tuning:
    """The tuning of an arm: one trial after the other, each of which follows from the results before it.

    Arms share the sampler's seed: the first suggestions are the same in all of them.
    """

    def __init__(self, tuning: TuningConfig, factory: TrialFactory, arm: Arm) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._config, self._factory, self._arm = tuning, factory, arm
        sampler = build_sampler(tuning.sampler, tuning.seed, tuning.trials, len(tuning.parameters))
        self._walk = optuna.create_study(sampler=sampler, direction="maximize")
        for point in grid(tuning.parameters) if tuning.sampler == "grid" else ():
            self._walk.enqueue_trial(point)
        self.tried: list[Trial] = []
        self._open: tuple[optuna.Trial, dict[str, Any]] | None = None
        self._found: list[tuple[float, dict[str, Any]]] = []

    def advance(self, scores: Scores) -> dict[str, Any] | None:
        """Goes on to the first trial that is not settled; returns the best values if there is none."""
        while self._open is not None or len(self.tried) < self._config.trials:
            if self._open is None:
                self._ask()
            elif self.tried[-1].id in scores:
                self._tell(*self._open, scores[self.tried[-1].id])
            else:
                return None
        return max(self._found, key=lambda pair: pair[0])[1] if self._found else {}

    def _ask(self) -> None:
        asked = self._walk.ask()
        values = suggest(asked, self._config.parameters)
        self._open = asked, values
        trial = self._factory.trial(self._arm.name, self._config.seed, {**self._arm.values, **values}, "tune")
        self.tried.append(trial)

    def _tell(self, asked: optuna.Trial, values: dict[str, Any], score: float | None) -> None:
        self._open = None
        if score is None:
            self._walk.tell(asked, state=optuna.trial.TrialState.FAIL)
        else:
            self._walk.tell(asked, score)
            self._found.append((score, values))
