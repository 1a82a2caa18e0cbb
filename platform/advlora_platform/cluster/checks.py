"""Is a cluster fit to run studies? Every check says what is wrong and how to fix it."""

from __future__ import annotations

import json
import shlex
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from advlora.errors import UserError
from advlora_platform.cluster.environment import entrypoint, job_environment
from advlora_platform.cluster.facts import PREFIX
from advlora_platform.cluster.jobs import Cluster
from advlora_platform.cluster.package import packed
from advlora_platform.doctor import Check
from advlora_platform.execution.address import PATIENCE
from advlora_platform.execution.storage import REMEDY

CLOCK_SECONDS = 5.0
"""By which the clocks of two nodes may differ."""
HEAD_BYTES = 4 * 2**30
"""Free memory that the head needs for Ray, the driver and the processes around some slots."""
JOB_SECONDS = 600.0
Facts = Mapping[str, Any]


def examine_cluster(address: str, out: PurePosixPath) -> Iterator[Check]:
    """Yields every check of a cluster.

    Args:
        address: Of its dashboard.
        out: A folder on the storage for studies.

    Raises:
        UserError: If the cluster cannot be reached, or cannot run the job that looks around.
    """
    cluster = Cluster(address)
    yield authentication(address)
    facts = _ask(cluster, out)
    yield from nodes(facts["nodes"], out)
    yield tracked(facts["tracking"])
    yield memory(facts["memory"])


def _ask(cluster: Cluster, out: PurePosixPath) -> Facts:
    """Runs `facts` as a job and returns what it printed."""
    command = entrypoint(f"python -m advlora_platform.cluster.facts {shlex.quote(str(out))}", out / "study")
    with packed() as folder:
        job = cluster.start(command, folder, job_environment([]), {}, "doctor")
    ended = cluster.result(job, JOB_SECONDS)
    lines = [line for line in cluster.text(job).splitlines() if line.startswith(PREFIX)]
    facts = json.loads(lines[-1].removeprefix(PREFIX)) if lines else {"error": ended.message or ended.status}
    if "error" in facts:
        raise UserError(f"the cluster at {cluster.address} cannot run a job: {facts['error']}")
    return dict(facts)


def authentication(address: str) -> Check:
    """Checks that nobody gets in without a token, unless only this machine can reach the port."""
    asks = _status(f"{address.rstrip('/')}/api/version") in {401, 403}
    near = urlsplit(address).hostname in {"localhost", "127.0.0.1", "::1"}
    found = "by token" if asks else "none" + (", but on this machine only, or behind a tunnel" if near else "")
    return Check("authentication", found, asks or near, "start every node of the cluster with RAY_AUTH_MODE=token")


def _status(url: str) -> int:
    """Returns the status of an answer to whoever shows no token."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310  (`Cluster` has checked the scheme)
            return int(answer.status)
    except HTTPError as refusal:
        return refusal.code


def nodes(facts: Sequence[Facts], out: PurePosixPath) -> Iterator[Check]:
    """Yields what concerns every node: does it answer, and alike; storage, clocks, GPUs."""
    silent = {fact["node"]: fact["problem"] for fact in facts if "problem" in fact}
    there = [fact for fact in facts if "problem" not in fact]
    yield Check("nodes", _listed(silent) or f"{len(facts)} answer", not silent, "use one image for all nodes")
    yield versions(there)
    away = {fact["node"]: fact["storage"] for fact in there if fact["storage"]}
    yield Check("storage", _listed(away) or f"{out}: shared and writable", not away, REMEDY)
    late = {fact["node"]: f"{_off(fact):.0f} s" for fact in there if _off(fact) > CLOCK_SECONDS}
    yield Check("clocks", _listed(late) or "agree", not late, "let NTP or chrony set the clock of these nodes")
    idle = {fact["node"]: "torch without CUDA" for fact in there if fact["gpus"] and not fact["cuda"]}
    count = sum(fact["gpus"] for fact in facts)
    yield Check("gpus", _listed(idle) or f"{count:g}", not idle, "install a build of torch with CUDA there")


def versions(facts: Sequence[Facts]) -> Check:
    """Checks that packages, Python and the method's code are the same on every node."""
    names = sorted({name for fact in facts for name in fact["versions"]})
    found = {name: sorted({str(fact["versions"].get(name)) for fact in facts}) for name in names}
    apart = {name: " and ".join(values) for name, values in found.items() if len(values) > 1}
    return Check("versions", _listed(apart) or "the same everywhere", not apart, "use one image for all nodes")


def tracked(fact: Facts) -> Check:
    """Checks the tracking store, as the driver of a study reaches it."""
    fix = "start the server, or set MLFLOW_TRACKING_URI on the head to one that it reaches"
    return Check("tracking", fact["problem"] or fact["store"], not fact["problem"], fix)


def memory(free: float) -> Check:
    """Checks the memory that is free where drivers run."""
    found = f"{free / 2**30:.1f} GB free, {HEAD_BYTES / 2**30:g} needed"
    return Check("head memory", found, free >= HEAD_BYTES, "give the head more memory")


def _off(fact: Facts) -> float:
    """Returns by how many seconds the clock of a node is certainly off: it was read between question and answer."""
    return float(max(fact["asked"] - fact["clock"], fact["clock"] - fact["answered"], 0.0))


def _listed(named: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {text}" for name, text in named.items())
