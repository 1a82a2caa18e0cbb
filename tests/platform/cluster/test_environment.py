from __future__ import annotations

import subprocess
from pathlib import PurePosixPath

import pytest

from advlora.errors import UserError
from advlora_platform.cluster.environment import TRACKING, entrypoint, job_environment

pytestmark = pytest.mark.unit
OUT = PurePosixPath("/mnt/Ann's runs/parts")


@pytest.fixture(autouse=True)
def _no_tracking_server(monkeypatch):
    monkeypatch.delenv(TRACKING, raising=False)


def test_what_is_asked_for_goes_along(monkeypatch):
    monkeypatch.setenv("HF_HOME", "/mnt/hub")
    found = job_environment(["HF_HOME", "HF_HUB_OFFLINE=1", "EMPTY="])
    assert {"HF_HOME": "/mnt/hub", "HF_HUB_OFFLINE": "1", "EMPTY": ""}.items() <= found.items()


def test_the_tracking_server_goes_along_by_itself(monkeypatch):
    assert TRACKING not in job_environment([])
    monkeypatch.setenv(TRACKING, "http://mlflow:5000")
    assert job_environment([])[TRACKING] == "http://mlflow:5000"
    assert job_environment([f"{TRACKING}=http://other"])[TRACKING] == "http://other"


@pytest.mark.parametrize(
    "assignment",
    [
        "MLFLOW_TRACKING_PASSWORD=x",
        "HF_TOKEN=x",
        "AWS_SECRET_ACCESS_KEY=x",
        "DATABASE=postgresql://ann:word@db/mlflow",
        f"{TRACKING}=https://ann:word@mlflow",
        f"{TRACKING}=https://mlflow?token=word",
    ],
)
def test_a_credential_does_not_go_along_and_is_not_shown(assignment):
    with pytest.raises(UserError) as refused:
        job_environment([assignment])
    (sentence,) = refused.value.problems
    assert f"--env {assignment.partition('=')[0]} holds a credential: " in sentence
    assert "word" not in sentence


def test_all_that_is_wrong_is_said(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "x")
    monkeypatch.setenv(TRACKING, "sqlite:///mlflow.db")
    with pytest.raises(UserError) as refused:
        job_environment(["HF_TOKEN", "UNSET_HERE"])
    said = "\n".join(refused.value.problems)
    assert len(refused.value.problems) == 3
    for part in ("HF_TOKEN holds", "UNSET_HERE is not set here", "sqlite:///mlflow.db is a file of this machine"):
        assert part in said


@pytest.mark.parametrize(
    ("on_the_node", "used"),
    [({}, "sqlite:////mnt/Ann's runs/mlflow.db"), ({TRACKING: "http://mlflow"}, "http://mlflow")],
)
def test_a_job_tracks_beside_its_study_unless_the_node_names_a_store(on_the_node, used):
    shown = entrypoint(f"sh -c 'echo ${TRACKING}'", OUT)
    answer = subprocess.run(["sh", "-c", shown], env=on_the_node, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == used
