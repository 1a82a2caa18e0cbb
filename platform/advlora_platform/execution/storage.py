"""Does every node see the study folder of the driver? Asked before any compute, and by every trial where it runs.

The driver leaves a mark in the folder, and the others look for it. A node without the storage would make a folder of
the same name of its own, and everything would be computed and lost.
"""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advlora.errors import UserError, first_line
from advlora_platform.study.folder import write_text

PATIENCE = 5.0
"""Seconds until a file that one node has written must be seen by another; storage keeps lists of files for a while."""
ANSWER_SECONDS = 60.0
"""Seconds until a node must answer. One that does not is asked again by the first trial that it gets."""
REMEDY = "mount the same storage there as on the node of the driver, writable, and name a folder on it with --out"


@dataclass(frozen=True)
class Mark:
    """What a driver has left in a folder, so that others know the folder."""

    folder: Path
    name: str

    @property
    def file(self) -> Path:
        """The mark."""
        return self.folder / self.name

    def problem(self) -> str:
        """Says in a few words why this node cannot use the folder; nothing where it can."""
        end = time.monotonic() + PATIENCE
        while not self.file.exists():
            if time.monotonic() > end:
                return "does not see there what the driver has written"
            time.sleep(PATIENCE / 20)
        answer = self.file.with_suffix(f".{uuid.uuid4().hex}")
        try:
            answer.touch()
            answer.unlink()
        except OSError as error:
            return f"cannot write there ({error.strerror})"
        return ""

    def check(self, node: str = "") -> None:
        """Refuses to compute where the folder is another one.

        Raises:
            UserError: In one sentence that names node and folder.
        """
        if problem := self.problem():
            raise UserError(self.refusal(node or socket.gethostname(), problem))

    def refusal(self, node: str, problem: str) -> str:
        """Says what is wrong on a node, and what to do."""
        return f"study folder {self.folder.parent}: node {node} {problem}; {REMEDY}"


@contextmanager
def marked(folder: Path) -> Iterator[Mark]:
    """Leaves a mark in a folder as long as the context is open; `remove_drafts` removes that of a killed driver."""
    mark = Mark(folder / "ray", f"driver-{uuid.uuid4().hex}")
    write_text(mark.file, "")
    try:
        yield mark
    finally:
        mark.file.unlink(missing_ok=True)


def check_nodes(mark: Mark) -> None:
    """Asks every node of the cluster but that of the driver.

    Raises:
        UserError: With one sentence per node that does not see the folder, cannot write there or lacks the package.
    """
    import ray

    own = ray.get_runtime_context().get_node_id()
    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"] and node["NodeID"] != own}
    problems = {_name(nodes[node]): problem for node, problem in _ask(mark, list(nodes)).items() if problem}
    if problems:
        raise UserError([mark.refusal(node, problem) for node, problem in problems.items()])


def _ask(mark: Mark, nodes: list[str]) -> dict[str, str]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(_answer)
    asked = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(mark): node
        for node in nodes
    }
    ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS) if asked else ([], [])
    return {asked[answer]: _said(answer) for answer in ready}


def _said(answer: Any) -> str:
    import ray

    try:
        return str(ray.get(answer))
    except (ray.exceptions.RaySystemError, ray.exceptions.RayTaskError) as error:  # the package does not load there
        return f"cannot run the check ({first_line(error)})"
    except ray.exceptions.RayError:  # it has left meanwhile
        return ""


def _answer(mark: Mark) -> str:
    return mark.problem()


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
