"""What an ablation still has to run: tuning inside every arm, then every arm with every seed.

A pure function of what is settled, so that a continued study takes the same decisions as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from advlora_platform.search.samplers import build_sampler
from advlora_platform.search.space import grid, remaining, suggest
from advlora_platform.study.ablation import AblationStudy, Arm, TuningConfig, arms
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
    """

    arm: Arm
    tuning: tuple[Trial, ...]
    tuned: dict[str, Any] | None
    trials: tuple[Trial, ...]
    budget: int


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
    return [_plan_arm(study, factory, arm, scores) for arm in arms(study)]


def _plan_arm(study: AblationStudy, factory: TrialFactory, arm: Arm, scores: Scores) -> ArmPlan:
    tuning = tuning_of(study, arm)
    if tuning is None:
        return ArmPlan(arm, (), {}, _seed_trials(study, factory, arm, {}), 0)
    tried, tuned = _tune(tuning, factory, arm, scores)
    trials = () if tuned is None else _seed_trials(study, factory, arm, tuned)
    return ArmPlan(arm, tuple(tried), tuned, trials, tuning.trials)


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


def _seed_trials(study: AblationStudy, factory: TrialFactory, arm: Arm, tuned: dict[str, Any]) -> tuple[Trial, ...]:
    return tuple(factory.trial(arm.name, seed, {**arm.values, **tuned}, "ablate") for seed in study.seeds)


def _tune(
    tuning: TuningConfig, factory: TrialFactory, arm: Arm, scores: Scores
) -> tuple[list[Trial], dict[str, Any] | None]:
    """Replays the tuning of an arm up to the first trial that is not settled.

    Every suggestion follows from the results before it, and arms share the sampler's seed: the first suggestions are
    the same in all of them.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = build_sampler(tuning.sampler, tuning.seed, tuning.trials, len(tuning.parameters))
    walk = optuna.create_study(sampler=sampler, direction="maximize")
    for point in grid(tuning.parameters) if tuning.sampler == "grid" else ():
        walk.enqueue_trial(point)
    tried: list[Trial] = []
    found: list[tuple[float, dict[str, Any]]] = []
    for _ in range(tuning.trials):
        trial = walk.ask()
        values = suggest(trial, tuning.parameters)
        tried.append(factory.trial(arm.name, tuning.seed, {**arm.values, **values}, "tune"))
        if tried[-1].id not in scores:
            return tried, None
        score = scores[tried[-1].id]
        if score is None:
            walk.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            walk.tell(trial, score)
            found.append((score, values))
    return tried, max(found, key=lambda pair: pair[0])[1] if found else {}
