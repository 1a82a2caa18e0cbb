from __future__ import annotations

import os
import subprocess
import sys

import pytest

from advlora.errors import UserError
from advlora.identity import code_version, hash_files
from advlora_platform.cluster.package import STUDY, packed, refuse_relative_paths
from advlora_platform.study.library import load_any
from tests import builders

pytestmark = pytest.mark.unit
SHOW = (
    "import advlora, advlora_platform, advlora_protocols, importlib.metadata as m; "
    "print(advlora.__file__, advlora_platform.__file__, m.version('advlora'), len(m.requires('advlora')))"
)


def test_a_job_takes_along_the_study_and_the_code_that_is_imported_here():
    study = load_any("quickstart", ["adapter.rank=4"])
    with packed(study) as folder:
        assert hash_files(folder / "advlora") == code_version()
        assert load_any(str(folder / STUDY)) == study
        assert not list(folder.rglob("__pycache__"))
    assert not folder.exists()


def test_the_code_runs_from_the_folder_alone(tmp_path):
    with packed() as folder:
        environment = {**os.environ, "PYTHONPATH": ""}
        command = [sys.executable, "-c", SHOW]
        answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    method, platform, version, requirements = answer.stdout.split()
    assert method.startswith(str(folder))
    assert platform.startswith(str(folder))
    assert version[0].isdigit()
    assert int(requirements) > 10


def test_paths_that_begin_on_this_machine_are_refused():
    arms = {"a": {"data.name": "sets/mine"}, "b": {"data.name": "/mnt/set"}, "c": {}}
    model = {"source": "open_clip", "name": "local-dir:~/vit"}
    with pytest.raises(UserError) as refused:
        refuse_relative_paths(builders.ablation(base={"model": model}, arms=arms))
    assert [problem.partition(" is relative")[0] for problem in refused.value.problems] == [
        "data.name: 'sets/mine'",
        "model.name: '~/vit'",
    ]
    with pytest.raises(UserError, match=r"transfer\.root: '~/sets' is relative"):
        refuse_relative_paths(builders.ablation(transfer={"root": "~/sets", "sets": ["fare-13"]}))
    refuse_relative_paths(builders.ablation(arms={"b": arms["b"], "c": {}}))
