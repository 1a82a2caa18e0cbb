"""What a search found: its trials, the best so far, the Pareto front, and which parameters mattered."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from advlora.metrics import Metric
from advlora_platform.analysis.trials import TrialResult, recorded
from advlora_platform.search.finalists import goodness, pareto_set
from advlora_platform.search.space import distributions
from advlora_platform.study.ledger import Record
from advlora_platform.study.sweep import SweepStudy

ENOUGH = 8
"""With fewer finished trials no importance is stated."""


@dataclass(frozen=True)
class SweepResult:
    """The answers of a sweep.

    Attributes:
        objectives: Metric -> `max` or `min`; the first one selects.
        trials: Every trial, in the order in which they began.
        best_so_far: Trial number -> best final value of the first objective until then.
        pareto: Numbers of the trials that no other one dominates; None with a single objective.
        importance: Parameter -> share of the difference between good trials and all; None with too few of them.
        good: Share of the trials that count as good for `importance`.
    """

    objectives: dict[str, str]
    trials: tuple[TrialResult, ...]
    best_so_far: dict[int, float]
    pareto: tuple[int, ...] | None
    importance: dict[str, float] | None
    good: float | None


def sweep_result(study: SweepStudy, records: Sequence[Record], runs: Mapping[str, str]) -> SweepResult:
    """Evaluates the trials of a sweep."""
    objectives: dict[str, str] = {str(metric): metric.direction for metric in study.objectives()}
    trials = tuple(recorded(number, record, runs) for number, record in enumerate(records, start=1))
    done = [trial for trial in trials if trial.status == "done" and objectives.keys() <= trial.metrics.keys()]
    good = None if len(done) < ENOUGH else good_share(len(done))
    return SweepResult(
        objectives=objectives,
        trials=trials,
        best_so_far=best_so_far(done, *next(iter(objectives.items()))),
        pareto=pareto_front(done, study.objectives()) if len(objectives) > 1 else None,
        importance=None if good is None else importance(study, done, good),
        good=good,
    )


def best_so_far(done: Sequence[TrialResult], metric: str, goal: str) -> dict[int, float]:
    """Returns the best final value up to each finished trial."""
    better = max if goal == "max" else min
    curve: dict[int, float] = {}
    for trial in done:
        curve[trial.number] = better([trial.metrics[metric], *list(curve.values())[-1:]])
    return curve


def pareto_front(done: Sequence[TrialResult], objectives: Sequence[Metric]) -> tuple[int, ...]:
    """Returns the numbers of the trials that no other one dominates."""
    places = pareto_set([goodness(trial.metrics, objectives) for trial in done])
    return tuple(done[place].number for place in places)


def good_share(trials: int) -> float:
    """Returns the share of trials that count as good: at least five of them where half of all allow it."""
    return min(0.5, max(0.1, 5 / trials))


def importance(study: SweepStudy, done: Sequence[TrialResult], good: float) -> dict[str, float]:
    """Returns how much each parameter tells good trials from all, as shares of 1 (PED-ANOVA, Watanabe et al. 2023).

    Parameters that exist in some trials only are compared where they exist (conditional PED-ANOVA, 2026). The first
    objective decides what is good.
    """
    objective = study.objectives()[0]
    goal = {"max": "maximize", "min": "minimize"}[objective.direction]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's remarks about small numbers of trials; the report gives the number.
        past = optuna.create_study(direction=goal, sampler=optuna.samplers.RandomSampler(seed=0))
        for trial in done:
            known = distributions(study.parameters, trial.values)
            value = trial.metrics[str(objective)]
            past.add_trial(optuna.trial.create_trial(value=value, params=trial.values, distributions=known))
        shares = get_param_importances(past, evaluator=PedAnovaImportanceEvaluator(target_quantile=good))
    return {name: float(share) for name, share in sorted(shares.items(), key=lambda item: (-item[1], item[0]))}
