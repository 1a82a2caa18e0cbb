"""Who holds a lease, and whether that process still runs."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import socket
import sys
import uuid
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True)
class Holder:
    """A driver, as its lease describes it.

    Attributes:
        token: Tells this holder from every other one, even of the same process.
        pid: Process id on its machine.
        born: When the process began, in a unit of its machine that no step of the clock changes.
        host: Name of the machine, for people.
        machine: Names the machine and its process ids without ambiguity, for programs.
        since: When it took the lease, by its own clock.
        renewed: When the storage last saw a sign of life, by the storage's clock.
    """

    token: str
    pid: int
    born: float
    host: str
    machine: str
    since: str
    renewed: float = field(default=0.0, compare=False)

    @classmethod
    def me(cls) -> Holder:
        """Describes this process, under a new token."""
        now, pid = datetime.now().astimezone().isoformat(" ", "seconds"), os.getpid()
        return cls(uuid.uuid4().hex, pid, birth(pid) or 0.0, socket.gethostname(), machine(), now)

    @classmethod
    def read(cls, text: str, renewed: float) -> Holder:
        """Reads a lease; a damaged one belongs to a stranger, who counts as alive until the lease is stale."""
        try:
            content: dict[str, Any] = json.loads(text)
            return cls(**content, renewed=renewed)
        except (ValueError, TypeError):
            token = hashlib.sha256(text.encode()).hexdigest()[:32]
            return cls(token, 0, 0.0, "an unknown machine", "", "an unknown time", renewed)

    def text(self) -> str:
        """Writes what `read` reads."""
        content = asdict(self)
        del content["renewed"]
        return json.dumps(content) + "\n"

    @property
    def near(self) -> bool:
        """Whether this process can see that one, so that no sign of life is needed."""
        return self.machine == machine()

    @property
    def runs(self) -> bool:
        """Whether the process still runs, where it is near. An id is used again after a while; the birth is not."""
        return birth(self.pid) in {None, self.born} and psutil.pid_exists(self.pid)

    def __str__(self) -> str:
        return f"process (id {self.pid} on {self.host}, since {self.since})"


@functools.cache
def machine() -> str:
    """Names the running kernel and the namespace of its process ids.

    The host name alone is not enough: containers that share the host's network share its name, but each of them counts
    processes for itself.
    """
    name = socket.gethostname()
    if sys.platform != "linux":
        return name
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{name} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{name} {uuid.uuid4().hex}"  # a sandbox that hides them: nobody is near


def birth(pid: int) -> float | None:
    """Returns when a process began, on Linux in ticks since boot; None where it is gone or hidden from this user."""
    if sys.platform != "linux":
        try:
            return psutil.Process(pid).create_time()
        except psutil.Error:
            return None
    try:
        # After the name of the program, which may hold anything, come the state and 18 other fields.
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return -1.0 if state in "ZX" else float(rest[18])  # one that has ended, but whose parent has not noticed, is dead
