from __future__ import annotations

import shutil

import pytest

from tests.platform.tracking.tracking_help import Server, free_port


@pytest.fixture(scope="module")
def server(migrated, tmp_path_factory):
    """A running MLflow server; a test that kills it starts it again."""
    file = tmp_path_factory.mktemp("server") / "mlflow.db"
    shutil.copy(migrated, file)
    running = Server(file, free_port())
    running.start()
    yield running
    running.kill()
