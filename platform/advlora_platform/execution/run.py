"""`run`: every trial of every verb, through Tune slots that own warm workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from advlora.config import ResourcesConfig
from advlora.errors import UserError
from advlora_platform.execution.bridge import Bridge
from advlora_platform.execution.occupancy import occupancy, room
from advlora_platform.execution.resources import available, concurrency, slot_bundles
from advlora_platform.execution.session import session
from advlora_platform.execution.storage import check_nodes, marked
from advlora_platform.execution.work import Work
from advlora_platform.search.contract import StudySearcher
from advlora_platform.study.failures import LOST_WORKER, silences
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.observer import Observer, Waiting
from advlora_platform.study.trials import TrialFactory

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler


def run(
    search: StudySearcher,
    factory: TrialFactory,
    folder: StudyFolder,
    observers: Sequence[Observer],
    *,
    resources: ResourcesConfig,
    scheduler: TrialScheduler | None = None,
    max_concurrent: int | None = None,
    heartbeat: Callable[[], None] = lambda: None,
) -> None:
    """Runs what a searcher suggests until it has nothing left.

    Args:
        search: Suggests flat configurations.
        factory: Resolves them into trials.
        folder: The study folder.
        observers: Told in this order what happens.
        resources: What one trial occupies.
        scheduler: Stops weak trials early; None for none.
        max_concurrent: Upper bound of trials at once.
        heartbeat: Called at every turn of Tune's loop.

    Raises:
        UserError: If the machine or cluster cannot hold a trial, or a node does not see the study folder.
        OSError: If an observer could not write what happened.
    """
    with session(), marked(folder.path) as mark:
        check_nodes(mark)
        concurrency(resources, available())
        work = Work(factory, folder.path, mark, stoppable=scheduler is not None)
        bridge = Bridge(factory, observers, _turn(observers, heartbeat))
        _fit(_tuner(search, work, bridge, resources, scheduler, max_concurrent))


def _turn(observers: Sequence[Observer], heartbeat: Callable[[], None]) -> Callable[[], None]:
    """Returns what is done at every turn of Tune's loop."""
    from advlora_platform.execution.throttle import Watch

    def tell(text: str) -> None:
        for observer in observers:
            if isinstance(observer, Waiting):
                observer.waiting(text)

    watch = Watch(occupancy, tell)

    def turn() -> None:
        heartbeat()
        watch.look()

    return turn


def _fit(tuner: Any) -> None:
    from ray.tune import TuneError

    try:
        tuner.fit()
    except TuneError as error:
        # Tune keeps of what an observer raised only the text of its traceback; the error itself is its context.
        if isinstance(error.__context__, OSError | UserError):
            raise error.__context__ from None
        raise


def _tuner(
    search: StudySearcher,
    work: Work,
    bridge: Bridge,
    resources: ResourcesConfig,
    scheduler: TrialScheduler | None,
    max_concurrent: int | None,
) -> Any:
    from ray import tune

    from advlora_platform.execution.group import GroupSlot
    from advlora_platform.execution.solo import SoloSlot
    from advlora_platform.execution.throttle import Throttle

    slot = SoloSlot if resources.workers == 1 else GroupSlot
    trainable = tune.with_parameters(slot, work=work, resources=resources, silences=silences())
    return tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory(slot_bundles(resources), strategy="PACK")),
        tune_config=tune.TuneConfig(
            search_alg=Throttle(search, partial(room, resources), max_concurrent),
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(StudyFolder(work.folder).ray),
            verbose=0,
            callbacks=[bridge],
            failure_config=tune.FailureConfig(max_failures=LOST_WORKER.retried),
        ),
    )
