from __future__ import annotations

from pathlib import Path

import pytest

from advlora.errors import UserError
from advlora_platform.launch import launch
from advlora_platform.study.location import check_location
from tests import builders

pytestmark = pytest.mark.unit
JOB = "runtime_resources/working_dir_files/_ray_pkg_1f"


def test_an_object_store_is_not_taken_for_a_folder():
    with pytest.raises(UserError) as refused:
        check_location(Path("s3://bucket/study"), "study folder", "mount one")
    assert refused.value.problems == [
        "study folder 's3:/bucket/study' names an object store, but a file system is needed; mount one"
    ]


def test_a_folder_is_taken():
    for allowed in ("runs/a", "/mnt/shared/runs", "a:b/c"):
        check_location(Path(allowed), "study folder", "")


@pytest.fixture
def job(tmp_path, monkeypatch) -> Path:
    """The working folder of a job on a cluster."""
    folder = tmp_path / JOB
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


def test_a_study_in_the_working_folder_of_a_job_is_refused_before_anything_is_written(job):
    with pytest.raises(UserError, match="study folder 'runs/parts' lies where Ray unpacks a job") as refused:
        launch(builders.ablation(), Path("runs/parts"))
    assert "give --out a folder on storage that every node sees" in str(refused.value)
    assert list(job.iterdir()) == []


def test_so_is_the_store_that_a_job_would_track_to(job, tmp_path):
    with pytest.raises(UserError, match=r"MLflow store .* set MLFLOW_TRACKING_URI to a tracking server"):
        launch(builders.ablation(), tmp_path / "shared")
    assert not (tmp_path / "shared").exists()
