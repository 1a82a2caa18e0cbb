"""The second stage of a sweep: which trials are confirmed, and the trials in which that happens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from advlora.metrics import Metric
from advlora_platform.search.plan import ArmPlan
from advlora_platform.study.ablation import Arm
from advlora_platform.study.constraints import all_met
from advlora_platform.study.ledger import Record
from advlora_platform.study.sweep import SweepStudy
from advlora_platform.study.trials import TrialFactory


def finalists(study: SweepStudy, records: Iterable[Record]) -> list[Record]:
    """Returns the trials to confirm, best first: the top ones by the first objective, then the rest of the Pareto set.

    Only finished trials compete, for the last value of one that was stopped early is not comparable; and only those
    whose value can be trusted, and that keep the constraints of the study.
    """
    if study.confirm is None:
        return []
    objectives = study.objectives()
    metrics = {str(objective) for objective in objectives}
    finished = [record for record in records if record.status == "done" and record.phase == "search"]
    reliable = [record for record in finished if not record.unreliable and metrics <= record.metrics.keys()]
    candidates = [record for record in reliable if all_met(study.limits(), record.metrics)]
    ranked = sorted(candidates, key=lambda record: goodness(record.metrics, objectives)[0], reverse=True)
    top = ranked[: study.confirm.top]
    front = pareto_set([goodness(record.metrics, objectives) for record in ranked]) if len(objectives) > 1 else []
    return top + [ranked[place] for place in front if ranked[place] not in top]


def goodness(metrics: Mapping[str, float], objectives: Iterable[Metric]) -> list[float]:
    """Returns the objectives such that more is better."""
    return [(1 if objective.direction == "max" else -1) * metrics[str(objective)] for objective in objectives]


def pareto_set(points: Sequence[Sequence[float]]) -> list[int]:
    """Returns the places of the points that no other one dominates: as good in all, and better in one."""
    return [
        place
        for place, point in enumerate(points)
        if not any(other != point and all(a >= b for a, b in zip(other, point, strict=True)) for other in points)
    ]


def confirmation_plans(study: SweepStudy, factory: TrialFactory, records: Sequence[Record]) -> list[ArmPlan]:
    """Returns the trials that confirm every finalist: its values, with every fresh seed. Nothing is tuned any more."""
    seeds = () if study.confirm is None else study.confirm.seeds
    plans = []
    for finalist in finalists(study, records):
        arm = Arm(finalist_name(finalist.trial_id), finalist.values, None)
        trials = tuple(factory.trial(arm.name, seed, arm.values, "confirm") for seed in seeds)
        plans.append(ArmPlan(arm, (), {}, trials, 0))
    return plans


def finalist_name(trial_id: str) -> str:
    """Names the arm in which a trial of the search is confirmed."""
    return f"finalist {trial_id[:8]}"
