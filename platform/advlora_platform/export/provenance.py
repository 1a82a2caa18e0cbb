"""Where numbers come from: commit, method code, versions, machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from advlora.identity import code_version
from advlora_platform.study.environment import versions


def provenance() -> dict[str, Any]:
    """Describes the code and the machine; holds no path, user name or secret."""
    return {
        "commit": (_git("rev-parse", "HEAD") or b"").decode().strip() or None,
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "code_version": code_version(),
        "versions": versions(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
    }


def uncommitted() -> bytes:
    """Returns what differs from the last commit, for `git apply`; empty where nothing does, or outside a checkout."""
    return _git("diff", "--binary", "--no-ext-diff", "HEAD") or b""


def installed() -> list[str]:
    """Returns every installed package with its version, as `pip install -r` reads them, without this project."""
    found = {each.metadata["Name"]: each.version for each in importlib.metadata.distributions()}
    return sorted((f"{name}=={version}" for name, version in found.items() if name != "advlora"), key=str.lower)


def _git(*arguments: str) -> bytes | None:
    """Asks git about the checkout that this code lies in; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout
