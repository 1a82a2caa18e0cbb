"""Which store is used, and what is said when it cannot be."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from advlora.errors import UserError
from advlora_platform.tracking import MlflowTracker, public_uri, tracking_uri, ui_command
from advlora_platform.tracking.store import open_store, reason
from tests.builders import ablation
from tests.platform.tracking.tracking_help import folder, free_port

pytestmark = pytest.mark.integration


def test_the_database_of_the_working_folder_is_used_unless_the_environment_names_a_store(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other/x.db?timeout=3")
    assert tracking_uri() == f"sqlite:///{tmp_path}/other/x.db?timeout=3"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert tracking_uri() == "http://tracking:5000"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://ada:s3cret@host:5000/path?token=s3cret", "http://host:5000/path"),
        ("postgresql://ada:s3cret@host/db?password=s3cret", "postgresql://host/db"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("http://host:5000", "http://host:5000"),
    ],
)
def test_a_uri_is_shown_without_credentials(uri, shown):
    assert public_uri(uri) == shown


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("htp://host", ["scheme 'htp'", "did you mean 'http'"]),
        ("file:///data/mlruns", ["scheme 'file'", "sqlite:///FILE.db"]),
        ("./mlruns", ["'./mlruns'", "sqlite:///FILE.db"]),
        ("http://ada:s3cret@127.0.0.1:{port}", ["http://127.0.0.1:", "does not answer", "MLFLOW_TRACKING_URI"]),
        ("postgresql://ada:s3cret@127.0.0.1:{port}/db", ["postgresql://127.0.0.1:"]),
        ("sqlite:////dev/null/mlflow.db", ["sqlite:////dev/null/mlflow.db", "/dev/null"]),
        ("sqlite:////proc/mlflow.db", ["unable to open database file"]),
        ("sqlite:////etc/hostname", ["file is not a database"]),
    ],
)
def test_a_store_that_cannot_be_used_is_one_sentence_within_seconds(monkeypatch, tmp_path, uri, said):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(port=free_port()))
    begin = time.monotonic()
    with pytest.raises(UserError) as caught:
        MlflowTracker(ablation(), folder(tmp_path / "study", ablation()))
    assert time.monotonic() - begin < 10
    message = str(caught.value)
    assert "\n" not in message
    assert "s3cret" not in message
    assert caught.value.__cause__ is None
    for words in said:
        assert words in message


def test_a_server_that_keeps_silent_is_given_up(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        with pytest.raises(UserError, match="the server does not answer in time"):
            open_store(os.environ["MLFLOW_TRACKING_URI"])


def test_a_database_that_cannot_be_written_is_refused(store, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///file:{tmp_path}/mlflow.db?mode=ro&uri=true")
    with pytest.raises(UserError, match="readonly database"):
        open_store(os.environ["MLFLOW_TRACKING_URI"])


def test_reasons_hide_every_part_of_the_credentials():
    uri = "postgresql://ada:s%40cret@host/db?sslkey=hidden"
    error = RuntimeError(f"cannot connect to {uri} as ada with s@cret\nsecond line")
    assert reason(uri, error) == "cannot connect to *** as ada with ***"


def test_a_deleted_experiment_is_one_sentence(store, tmp_path):
    client = open_store(store)
    client.delete_experiment(client.create_experiment("parts"))
    with pytest.raises(UserError, match=r"experiment 'parts' was deleted in .*; restore it"):
        MlflowTracker(ablation(), folder(tmp_path / "study", ablation()))


def test_a_new_store_is_made_without_a_word(tmp_path):
    code = "from advlora_platform.tracking.store import *; open_store(tracking_uri())"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_the_ui_listens_where_it_is_told_with_one_worker():
    command = ui_command("sqlite:///x.db", "127.0.0.1", 5001)
    assert command[-6:] == ["--host", "127.0.0.1", "--port", "5001", "--workers", "1"]
    assert "sqlite:///x.db" in command
