"""Execution on Ray: one warm path for every trial."""

from advlora_platform.execution.resources import Node, available, concurrency
from advlora_platform.execution.run import run

__all__ = ["Node", "available", "concurrency", "run"]
