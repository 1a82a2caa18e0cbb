"""MLflow stores, and a factory of trials."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from advlora_platform.study.trials import TrialFactory
from tests import builders


@pytest.fixture(scope="session")
def migrated(tmp_path_factory) -> Path:
    """An empty store with today's schema: to make one costs seconds, to copy it nothing."""
    from advlora_platform.tracking.store import open_store

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    open_store(f"sqlite:///{file}")
    return file


@pytest.fixture
def store(migrated, tmp_path, monkeypatch) -> str:
    """A store of its own for the test, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(migrated, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def factory() -> TrialFactory:
    """Makes trials of the default configuration."""
    return builders.factory()


@pytest.fixture(scope="module")
def shared_ray() -> Iterator[None]:
    """One Ray for all tests of a module that run trials and do not kill it: each start costs seconds."""
    from advlora_platform.execution.session import session

    with session():
        yield
