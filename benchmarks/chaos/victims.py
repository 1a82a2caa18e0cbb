"""Who can be killed now."""

from __future__ import annotations

import re
from random import Random

import psutil

from benchmarks.chaos.cluster import Nodes, Server
from benchmarks.chaos.driver import Driver

PROCESSES = {
    "slot": r"ray::(SoloSlot|GroupSlot|ResourceTrainable)",
    "worker": r"ray::SoloWorker",
    "mailbox": r"ray::Mailbox",
    "controller": r"ray::TrainController",
    "group worker": r"ray::(RayTrainWorker|TrainWorker)",
}
"""Processes of Ray, by what they call themselves."""
ALONE = ("driver", "node", "server", "head")
EVERYONE = (*PROCESSES, *ALONE)


def living() -> dict[str, list[int]]:
    """Returns the processes of trials that run under this one: kind -> pids."""
    found: dict[str, list[int]] = {}
    for process in psutil.Process().children(recursive=True):
        title = _title(process)
        for kind, pattern in PROCESSES.items():
            if re.match(pattern, title):
                found.setdefault(kind, []).append(process.pid)
    return found


def kill_someone(draw: Random, kinds: tuple[str, ...], driver: Driver, nodes: Nodes, server: Server) -> tuple[str, int]:
    """Kills a process that lives now, every kind with equal chance, and returns its kind and pid."""
    alive = living()
    kind = draw.choice([kind for kind in kinds if kind in ALONE or alive.get(kind)])
    if kind in PROCESSES:
        pid = draw.choice(sorted(alive[kind]))
        try:
            psutil.Process(pid).kill()
        except psutil.NoSuchProcess:  # it ended by itself in between
            return "nobody", pid
        return kind, pid
    if kind == "driver":
        return kind, driver.kill()
    if kind == "node":
        return kind, nodes.kill_node(draw.randrange(nodes.size))
    return kind, server.kill() if kind == "server" else nodes.kill_head()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
