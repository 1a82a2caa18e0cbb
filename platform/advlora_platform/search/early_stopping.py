"""ASHA: weak trials of a sweep are stopped early."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace

from ray.tune.schedulers import AsyncHyperBandScheduler

from advlora_platform.study.ledger import Record
from advlora_platform.study.messages import EPOCH, tune_name
from advlora_platform.study.spec import SweepStudy, direction, objective_metrics


def build_scheduler(study: SweepStudy, epochs: int, records: Iterable[Record]) -> AsyncHyperBandScheduler | None:
    """Builds the scheduler of a sweep (asynchronous successive halving, Li et al. 2020); None for none.

    Args:
        study: Names the scheduler; the first objective decides.
        epochs: Of a trial.
        records: Of earlier launches; their epochs stand in the rungs already.
    """
    settings = study.search.scheduler
    if settings.kind == "none" or epochs <= settings.grace_epochs:
        return None
    metric = objective_metrics(study)[0]
    scheduler = AsyncHyperBandScheduler(
        time_attr=EPOCH,
        metric=tune_name(metric),
        mode=direction(metric),
        max_t=epochs,
        grace_period=settings.grace_epochs,
        reduction_factor=settings.reduction_factor,
        stop_last_trials=False,
    )
    sign = 1.0 if direction(metric) == "max" else -1.0
    for record in records:
        for entry in record.history:
            if metric in entry:
                known = SimpleNamespace(trial_id=record.trial_id)
                scheduler._brackets[0].on_result(known, entry["epoch"], sign * entry[metric])
    return scheduler
