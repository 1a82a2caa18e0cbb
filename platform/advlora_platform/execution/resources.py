"""How many trials run at once: computed from what the machine or the cluster has and what one trial occupies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from advlora.config import ResourcesConfig
from advlora.errors import UserError

SLOT_MEMORY = 600 * 2**20
"""Bytes that the processes around the workers of one trial need: slot, mailbox and Ray Train's controller."""
ROUNDING = 1e-6


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
    """Returns the nodes of the cluster that `RAY_ADDRESS` names or this process has joined; else this machine."""
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
    places = sum(_workers_on(node, resources) for node in nodes)
    trials = places // resources.workers
    if trials == 0:
        raise UserError(_refusal(resources, nodes, places))
    return trials if bound is None else min(trials, bound)


def _workers_on(node: Node, resources: ResourcesConfig) -> int:
    memory = resources.memory_gb_per_worker * 2**30 + SLOT_MEMORY / resources.workers
    limits = [node.cpus / resources.cpus_per_worker, node.memory / memory]
    if resources.gpus_per_worker:
        limits.append(node.gpus / resources.gpus_per_worker)
    return int(min(limits) + ROUNDING)


def _refusal(resources: ResourcesConfig, nodes: Sequence[Node], places: int) -> str:
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

    alive = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return [Node(has.get("CPU", 0), has.get("GPU", 0), has.get("memory", 0)) for has in alive]
