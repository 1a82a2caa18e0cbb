"""What a job finds out about its cluster: the nodes, the study storage, the tracking store. Prints one line of JSON.

Runs there as `python -m advlora_platform.cluster.facts FOLDER`.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from advlora.errors import UserError, first_line
from advlora.identity import code_version
from advlora_platform.doctor import PACKAGES
from advlora_platform.execution.session import session
from advlora_platform.execution.storage import Mark, marked
from advlora_platform.tracking import public_uri, tracking_uri
from advlora_platform.tracking.store import open_store

PREFIX = "ADVLORA-FACTS "
"""Begins the line, among whatever else a job prints."""
ANSWER_SECONDS = 120.0


def gather(folder: Path) -> dict[str, Any]:
    """Asks every node of the cluster that this process joins.

    Args:
        folder: Where studies shall lie.
    """
    with session(), marked(folder) as mark:
        return {"nodes": ask_nodes(mark), "tracking": tracking(), "memory": psutil.virtual_memory().available}


def ask_nodes(mark: Mark) -> list[dict[str, Any]]:
    """Returns what each node says of itself, with its name, its GPUs, and when it was asked and had answered."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(of_this_node)
    found = []
    for node in [node for node in ray.nodes() if node["Alive"]]:
        fact = {"node": node["NodeManagerHostname"], "gpus": node["Resources"].get("GPU", 0), "asked": time.time()}
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        try:
            fact |= ray.get(task.options(scheduling_strategy=place).remote(mark), timeout=ANSWER_SECONDS)
        except ray.exceptions.RayError as error:
            fact["problem"] = first_line(error)
        found.append({**fact, "answered": time.time()})
    return found


def of_this_node(mark: Mark) -> dict[str, Any]:
    """Returns versions, clock, and what is wrong with the storage here."""
    import torch

    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    versions |= {"python": platform.python_version(), "method": code_version()}
    return {
        "versions": versions,
        "clock": time.time(),
        "storage": mark.problem(),
        "cuda": bool(torch.version.cuda),
    }


def tracking() -> dict[str, str]:
    """Returns the tracking store, and what is wrong with it."""
    uri = tracking_uri()
    try:
        open_store(uri)
        problem = ""
    except UserError as error:
        problem = error.problems[0]
    return {"store": public_uri(uri), "problem": problem}


if __name__ == "__main__":
    try:
        result = gather(Path(sys.argv[1]))
    except (UserError, OSError) as problem:
        result = {"error": first_line(problem)}
    print(PREFIX + json.dumps(result))
