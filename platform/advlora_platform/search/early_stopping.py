"""ASHA: weak trials of a sweep are stopped early."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace

from ray.tune.schedulers import AsyncHyperBandScheduler

from advlora_platform.study.ledger import Record
from advlora_platform.study.messages import EPOCH, tune_name
from advlora_platform.study.sweep import SweepStudy


def build_scheduler(study: SweepStudy, records: Iterable[Record]) -> AsyncHyperBandScheduler | None:
    """Builds the scheduler of a sweep (asynchronous successive halving, Li et al. 2020); None for none.

    Args:
        study: Names the scheduler.
        records: What earlier launches left; their epochs stand in the rungs already.
    """
    settings, epochs = study.search.scheduler, study.trial.optimiser.epochs
    if settings.kind == "none" or epochs <= settings.grace_epochs:
        return None
    (objective,) = study.objectives()
    metric = str(objective)
    scheduler = AsyncHyperBandScheduler(
        time_attr=EPOCH,
        metric=tune_name(metric),
        mode=objective.direction,
        max_t=epochs,
        grace_period=settings.grace_epochs,
        reduction_factor=settings.reduction_factor,
        stop_last_trials=False,
    )
    sign = 1.0 if objective.direction == "max" else -1.0
    for record in records:
        for entry in record.history:
            if metric in entry:
                known = SimpleNamespace(trial_id=record.trial_id)
                scheduler._brackets[0].on_result(known, entry["epoch"], sign * entry[metric])
    return scheduler
