"""A real cluster of several raylets on this machine, and an MLflow server: each of their processes can be killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import requests

START_SECONDS = 120.0


class Nodes:
    """A head without cores, so that losing it ends no trial by itself, and nodes of one core each."""

    def __init__(self, count: int) -> None:
        os.environ["RAY_AUTH_MODE"] = "disabled"  # before Ray is imported, which reads it
        self._count = count
        self._cluster: Any = None
        self.start()

    @property
    def address(self) -> str:
        """Where drivers join."""
        return str(self._cluster.address)

    def start(self) -> None:
        """Starts head and nodes."""
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(self._count):
            self._cluster.add_node(num_cpus=1)

    def stop(self) -> None:
        """Ends all that is left of it."""
        for node in [*self._cluster.worker_nodes, self._cluster.head_node]:
            node.kill_all_processes(check_alive=False, allow_graceful=False)
        self._cluster = None

    def kill_node(self, index: int) -> int:
        """Kills the raylet of a node, with all that runs there; another node joins. Returns the pid."""
        node = sorted(self._cluster.worker_nodes, key=lambda each: str(each.node_id))[index]
        pid = int(node.all_processes["raylet"][0].process.pid)
        node.kill_raylet()
        self._cluster.worker_nodes.discard(node)
        node.kill_all_processes(check_alive=False, allow_graceful=False)
        self._cluster.add_node(num_cpus=1)
        return pid

    def kill_head(self) -> int:
        """Kills what keeps the cluster together; without an outside store Ray does not survive that."""
        pid = int(self._cluster.head_node.all_processes["gcs_server"][0].process.pid)
        self._cluster.head_node.kill_gcs_server()
        return pid

    @property
    def size(self) -> int:
        """Nodes with a core."""
        return self._count


class Server:
    """A tracking server over a database, and an artefact folder."""

    def __init__(self, folder: Path, store: str = "") -> None:
        """Starts it.

        Args:
            folder: Where its artefacts and its log are kept.
            store: The database; a file of SQLite in the folder if none is named.
        """
        self._folder, self._port = folder, free_port()
        self._store = store or f"sqlite:///{folder / 'mlflow.db'}"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def uri(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        options = ["--backend-store-uri", self._store, "--port", str(self._port)]
        options += ["--host", "127.0.0.1", "--workers", "1", "--artifacts-destination", str(self._folder / "artifacts")]
        with (self._folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options], stdout=log, stderr=log
            )
        wait_for(self._answers, "the tracking server")

    def kill(self) -> int:
        """Kills it with its workers, and returns its pid."""
        assert self.process is not None, "it was started"
        kill_tree(self.process.pid)
        self.process.wait()
        return self.process.pid

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.uri}/health", timeout=2).ok
        except requests.RequestException:
            return False


def free_port() -> int:
    """Returns a port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kill_tree(pid: int) -> None:
    """Kills a process and all that it started."""
    try:
        process = psutil.Process(pid)
        for each in (*process.children(recursive=True), process):
            each.kill()
    except psutil.NoSuchProcess:
        pass


def wait_for(happens: Any, what: str, seconds: float = START_SECONDS) -> None:
    """Waits until something is so.

    Raises:
        TimeoutError: If it is not in time.
    """
    deadline = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: nothing within {seconds:.0f} s")
        time.sleep(0.2)
