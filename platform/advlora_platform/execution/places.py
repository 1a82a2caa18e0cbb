"""Where the workers of a group run, and how they are ended when they do not answer."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import psutil

PATIENCE = 30.0
"""Seconds until every worker must be gone; one on a node that is lost is gone already."""


@dataclass(frozen=True)
class Place:
    """A process on a node of Ray."""

    node: str
    pid: int
    began: float
    """Start of the process: its number may be given to another one later."""


def here() -> Place:
    """Returns the place of this process."""
    import ray

    process = psutil.Process()
    return Place(ray.get_runtime_context().get_node_id(), process.pid, process.create_time())


def kill(places: Iterable[Place]) -> None:
    """Kills processes wherever they are. Ray would ask them to exit, which one that is stopped cannot do."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(_kill)
    killed = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(place.node, soft=False)).remote(place)
        for place in places
    ]
    ray.wait(killed, num_returns=len(killed), timeout=PATIENCE)


def _kill(place: Place) -> None:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(place.pid)
        if process.create_time() == place.began:
            process.kill()
