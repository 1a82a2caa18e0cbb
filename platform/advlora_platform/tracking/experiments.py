"""Experiments of MLflow, and the names that it takes."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import quote

from advlora.errors import UserError
from advlora_platform.tracking.store import database_file, public_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

TRAINING = "custom_model_development"
"""The kind of experiment in MLflow's own words: one of training runs, not of language-model traces."""
LONGEST_NAME = 250
METRICS_PER_CALL = 1000


def obtain_experiment(client: MlflowClient, name: str, description: str, uri: str, remedy: str) -> str:
    """Finds or creates an experiment and returns its id; files of an SQLite store lie beside the database.

    Raises:
        UserError: If the experiment was deleted; it ends with what the user can do.
    """
    known = client.get_experiment_by_name(name)
    if known is not None and known.lifecycle_stage != "active":
        raise UserError(f"the MLflow experiment '{name}' was deleted in {public_uri(uri)}; {remedy}")
    if known is not None:
        return str(known.experiment_id)
    file = database_file(uri)
    place = None if file is None else f"file://{quote(str(file.parent))}/mlartifacts/{quote(name)}"
    tags = {"mlflow.experimentKind": TRAINING, "mlflow.note.content": description}
    return str(client.create_experiment(name, place, tags))


def metric_name(name: str) -> str:
    """Returns the nearest name that MLflow takes for a metric or a parameter."""
    return posixpath.normpath(re.sub(r"[^/\w.\- :]", "_", name)).lstrip("/.")[:LONGEST_NAME]


def metric_names(names: Collection[str]) -> dict[str, str]:
    """Returns the name in MLflow of each; where two would become one, a digest of the original keeps them apart."""
    nearest = {name: metric_name(name) for name in names}
    shared = Counter(nearest.values())
    return {name: near if shared[near] == 1 else _with_digest(name, near) for name, near in nearest.items()}


def _with_digest(name: str, near: str) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{near[: LONGEST_NAME - 7]}-{digest}"
