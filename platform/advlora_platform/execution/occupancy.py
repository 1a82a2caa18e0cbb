"""What the cluster has at this moment, and what of it this driver holds or waits for: nodes come and go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from advlora.config import ResourcesConfig
from advlora_platform.execution.resources import Node, available, growing, node_of, trials_on, workers_on

PLACED, WAITING = {"CREATED"}, {"PENDING", "PREPARED", "RESCHEDULING"}
"""States of a placement group; those that are removed stay in Ray's table for a while."""
MEMORY = "GB of memory"
Bundle = Mapping[str, float]


@dataclass(frozen=True)
class Occupancy:
    """The cluster as one driver sees it.

    Attributes:
        nodes: What each node has in all.
        free: What of it nobody holds.
        held: What this driver holds, bundle by bundle.
        awaited: What this driver has asked for and does not have yet.
        others: The other drivers on the cluster.
    """

    nodes: tuple[Node, ...]
    free: tuple[Node, ...]
    held: tuple[Bundle, ...] = ()
    awaited: tuple[Bundle, ...] = ()
    others: tuple[str, ...] = ()

    def room(self, resources: ResourcesConfig) -> int:
        """Returns how many trials this driver could run now: on what it holds, and on what is free."""
        held = sum("CPU" in bundle for bundle in self.held)  # a worker has a bundle of its own
        return (held + sum(workers_on(node, resources) for node in self.free)) // resources.workers

    def lack(self) -> str:
        """Says what is waited for and where it is; empty where nothing is."""
        wanted = {name: amount for name, amount in _sums(self.awaited).items() if amount}
        if not wanted:
            return ""
        free, whole, held = _sums(map(_bundle, self.free)), _sums(map(_bundle, self.nodes)), _sums(self.held)
        where = [
            f"{name}: {free[name]:g} of {whole[name]:g} free, {held[name]:g} held by this study" for name in wanted
        ]
        others = [f"others on the cluster: {', '.join(self.others)}"] if self.others else []
        asked = ", ".join(f"{amount:g} {name}" for name, amount in wanted.items())
        return f"{asked} ({'; '.join(where + others)})"


def room(resources: ResourcesConfig) -> int | None:
    """Returns how many trials of this driver fit now; None where Ray does not answer.

    On a cluster that scales that is how many fit when it has grown, for a trial that waits is what makes it grow.
    """
    if growing():
        return trials_on(available(), resources)
    seen = occupancy()
    return None if seen is None else seen.room(resources)


def occupancy() -> Occupancy | None:
    """Asks Ray, which this process has joined; None where it does not answer just now."""
    import ray

    try:
        return _occupancy()
    except ray.exceptions.RayError:
        return None


def _occupancy() -> Occupancy:
    import ray
    from ray._private import state
    from ray.util import placement_group_table

    job = ray.get_runtime_context().get_job_id()
    groups = [group for name, group in placement_group_table().items() if name.endswith(job)]  # an id ends with its job
    return Occupancy(
        nodes=tuple(node_of(node["Resources"]) for node in ray.nodes() if node["Alive"]),
        free=tuple(node_of(has) for has in state.available_resources_per_node().values()),
        held=_bundles(groups, PLACED),
        awaited=_bundles(groups, WAITING),
        others=tuple(_named(each) for each in state.jobs() if not each["IsDead"] and each["JobID"] != job),
    )


def _bundles(groups: Iterable[Mapping[str, Any]], states: set[str]) -> tuple[Bundle, ...]:
    return tuple(bundle for group in groups if group["state"] in states for bundle in group["bundles"].values())


def _named(job: Mapping[str, Any]) -> str:
    program = " ".join(str(job["Entrypoint"]).split()[:4]) or "a program"
    return f"'{program}' (process {job['DriverPid']} on {job['DriverIPAddress']})"


def _bundle(node: Node) -> Bundle:
    return {"CPU": node.cpus, "GPU": node.gpus, "memory": node.memory}


def _sums(bundles: Iterable[Bundle]) -> dict[str, float]:
    """Adds bundles up, in the words and units that people use."""
    listed, units = list(bundles), {"CPU": ("CPU", 1.0), "GPU": ("GPU", 1.0), "memory": (MEMORY, 2.0**30)}
    return {
        shown: round(sum(each.get(name, 0.0) for each in listed) / unit, 2) for name, (shown, unit) in units.items()
    }
