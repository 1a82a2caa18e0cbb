"""How many trials run at once: computed from what the machine or the cluster has and what one trial occupies."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import psutil
from pydantic import Field

from advlora.config import ResourcesConfig, parse
from advlora.config.base import Count, Positive, Section
from advlora.errors import ConfigError, UserError
from advlora.reading import parse_yaml

SOLO_SLOT_MEMORY = 150 * 2**20
"""Bytes of the process of a slot, beside its one worker."""
GROUP_SLOT_MEMORY = 1400 * 2**20
"""Bytes of all that lies around a group of workers: slot, mailbox, and Ray Train's controller with its helpers."""
ROUNDING = 1e-6
HEAD = "node:__internal_head__"
"""The resource by which Ray marks the head."""
GROWS_TO = "ADVLORA_GROWS_TO"
"""Environment variable that says which nodes an autoscaler may start, such as
`{nodes: 4, cpus: 8, gpus: 1, memory_gb: 28}`."""


@dataclass(frozen=True)
class Node:
    """What Ray may use of one machine.

    Attributes:
        memory: In bytes.
    """

    cpus: float
    gpus: float
    memory: float


def available() -> list[Node]:
    """Returns the nodes of the cluster that `RAY_ADDRESS` names or this process has joined; else this machine.

    A cluster that scales counts as large as `ADVLORA_GROWS_TO` says: what does not fit yet is what makes it grow.
    """
    import ray

    if ray.is_initialized():
        return _cluster()
    if os.environ.get("RAY_ADDRESS", "") in ("", "local"):
        return [_this_machine()]
    from advlora_platform.execution.session import session

    with session():
        return _cluster()


def concurrency(resources: ResourcesConfig, nodes: Sequence[Node], bound: int | None = None) -> int:
    """Returns how many trials fit at once.

    Args:
        resources: What one trial occupies.
        nodes: What there is; a worker lies on one node, the workers of a trial may lie on several.
        bound: At most this many.

    Raises:
        UserError: If not even one fits.
    """
    trials = trials_on(nodes, resources)
    if trials == 0:
        raise UserError(_refusal(resources, nodes))
    return trials if bound is None else min(trials, bound)


def trials_on(nodes: Sequence[Node], resources: ResourcesConfig) -> int:
    """Returns how many trials fit on nodes at once, be it none."""
    return sum(workers_on(node, resources) for node in nodes) // resources.workers


def slot_bundles(resources: ResourcesConfig) -> list[dict[str, float]]:
    """Returns what Tune reserves for one slot: the slot's own memory, and the single worker where there is one.

    Ray Train reserves the workers of a group. A CPU for the slot would be missing for them, and deadlock them.
    """
    if resources.workers > 1:
        return [{"memory": GROUP_SLOT_MEMORY}]
    return [{"memory": SOLO_SLOT_MEMORY}, per_worker(resources)]


def per_worker(resources: ResourcesConfig) -> dict[str, float]:
    """Returns what Ray reserves for a worker."""
    gpus = {"GPU": resources.gpus_per_worker} if resources.gpus_per_worker else {}
    return {"CPU": resources.cpus_per_worker, "memory": int(resources.memory_gb_per_worker * 2**30), **gpus}


def workers_on(node: Node, resources: ResourcesConfig) -> int:
    """Returns how many workers fit on a node."""
    around = SOLO_SLOT_MEMORY if resources.workers == 1 else GROUP_SLOT_MEMORY / resources.workers
    memory = resources.memory_gb_per_worker * 2**30 + around
    limits = [node.cpus / resources.cpus_per_worker, node.memory / memory]
    if resources.gpus_per_worker:
        limits.append(_workers_on_gpus(node.gpus, resources.gpus_per_worker))
    return int(min(limits) + ROUNDING)


def _workers_on_gpus(gpus: float, each: float) -> float:
    """Counts device by device: what two workers leave of a GPU each is of no use to a third."""
    return gpus * int(1 / each + ROUNDING) if each < 1 else gpus / each


def _refusal(resources: ResourcesConfig, nodes: Sequence[Node]) -> str:
    places = sum(workers_on(node, resources) for node in nodes)
    gpus = f", {resources.gpus_per_worker:g} GPU(s)" if resources.gpus_per_worker else ""
    wanted = f"{resources.cpus_per_worker} CPU(s){gpus} and {resources.memory_gb_per_worker:g} GB of memory"
    there = ", ".join(f"{n.cpus:g} CPU(s), {n.gpus:g} GPU(s), {n.memory / 2**30:.1f} GB" for n in nodes[:4])
    fits = f"at most {places} worker(s) fit" if places else "not even one worker fits"
    return (
        f"resources.workers: {resources.workers} worker(s) with {wanted} each do not fit on "
        f"{'this machine' if len(nodes) == 1 else f'{len(nodes)} nodes'} ({there}); {fits}"
    )


def _this_machine() -> Node:
    import torch

    # Ray leaves 30 % of the memory to its object store and to the system.
    memory = psutil.virtual_memory().available * 0.7
    return Node(len(os.sched_getaffinity(0)), torch.cuda.device_count(), memory)


def _cluster() -> list[Node]:
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    coming = to_come(os.environ.get(GROWS_TO, ""))
    return [node_of(has) for has in alive if not coming or HEAD in has] + coming


def growing() -> bool:
    """Whether an autoscaler may start nodes."""
    return bool(to_come(os.environ.get(GROWS_TO, "")))


def node_of(has: Mapping[str, float]) -> Node:
    """Reads the resources of a node as Ray names them; what it does not name is not there."""
    return Node(has.get("CPU", 0), has.get("GPU", 0), has.get("memory", 0))


class NodeGroup(Section):
    """Equal nodes that an autoscaler may start; Ray itself does not tell a driver of them."""

    nodes: Count
    cpus: Positive
    gpus: Annotated[float, Field(ge=0)] = 0
    memory_gb: Positive


def to_come(text: str) -> list[Node]:
    """Returns the workers that a cluster may have, those that run already among them.

    Args:
        text: YAML of a `NodeGroup`, or a list of them; empty for a cluster that does not scale.

    Raises:
        UserError: If it is none.
    """
    try:
        content = parse_yaml(text) or []
    except ConfigError as error:
        raise UserError([f"environment variable {GROWS_TO}: {problem}" for problem in error.problems]) from None
    groups = content if isinstance(content, list) else [content]
    found = [parse(NodeGroup, group, where=f"{GROWS_TO}.") for group in groups]
    return [Node(each.cpus, each.gpus, each.memory_gb * 2**30) for each in found for _ in range(each.nodes)]
