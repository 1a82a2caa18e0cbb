from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tracking_help import Server, free_port

from advlora_platform.tracking.store import open_store


@pytest.fixture(scope="session")
def migrated(tmp_path_factory) -> Path:
    """An empty store with today's schema: to make one costs seconds, to copy it nothing."""
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


@pytest.fixture(scope="module")
def server(migrated, tmp_path_factory):
    """A running MLflow server; a test that kills it starts it again."""
    file = tmp_path_factory.mktemp("server") / "mlflow.db"
    shutil.copy(migrated, file)
    running = Server(file, free_port())
    running.start()
    yield running
    running.kill()
