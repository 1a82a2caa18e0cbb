"""The environment of a job. Everybody who reaches the cluster can read it, so no credential goes into it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from advlora.errors import UserError
from advlora_platform.tracking import public_uri

TRACKING = "MLFLOW_TRACKING_URI"
STOP_SECONDS = {"RAY_JOB_STOP_WAIT_TIME_S": "30"}
"""How long a driver may take to let go of its study when it is told to stop."""
SECRET = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|ACCESS_KEY|API_KEY|PRIVATE_KEY", re.IGNORECASE)
ELSEWHERE = "everybody could read it in the job's metadata; set it on the nodes, for example from a Kubernetes secret"


def job_environment(assignments: Iterable[str]) -> dict[str, str]:
    """Returns the environment of a job: what is asked for, and the tracking server of this process.

    Args:
        assignments: `NAME=VALUE`, or `NAME` for a variable of this process.

    Raises:
        UserError: If a variable is not set or holds a credential; with all problems.
    """
    variables, problems = dict(STOP_SECONDS), []
    given = {name: value for name, mark, value in (text.partition("=") for text in assignments) if mark}
    named = [text for text in assignments if "=" not in text]
    for name in [TRACKING, *named]:
        if name in os.environ and name not in given:
            given[name] = os.environ[name]
        elif name in named and name not in given:
            problems.append(f"--env {name} is not set here; set it, or give its value as {name}=VALUE")
    for name, value in given.items():
        if SECRET.search(name) or _holds_credentials(value):
            problems.append(f"--env {name} holds a credential: {ELSEWHERE}")
        elif name == TRACKING and value.startswith("sqlite:///") and not value.startswith("sqlite:////"):
            problems.append(f"{name}={value} is a file of this machine; name a server, or sqlite:////FOLDER/mlflow.db")
        variables[name] = value
    if problems:
        raise UserError(problems)
    return variables


def entrypoint(words: str, out: PurePosixPath) -> str:
    """Returns the shell command of a job, which tracks beside the study where its node names no other store."""
    beside = _quoted(f"sqlite:///{out.parent / 'mlflow.db'}")
    return f"{TRACKING}=${{{TRACKING}:-{beside}}} {words}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _holds_credentials(value: str) -> bool:
    return "://" in value and not value.startswith("sqlite") and public_uri(value).rstrip("/") != value.rstrip("/")
