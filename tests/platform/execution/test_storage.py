from __future__ import annotations

from pathlib import Path

import pytest
import ray

from advlora.errors import UserError
from advlora_platform.execution import storage
from advlora_platform.execution.storage import Mark, check_nodes, marked
from advlora_platform.study.folder import StudyFolder, remove_drafts

pytestmark = pytest.mark.unit
DRIVER, HERE, ELSEWHERE = "d", "h", "e"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(storage, "PATIENCE", 0.02)


def test_a_folder_with_the_mark_of_the_driver_is_the_right_one_as_long_as_the_driver_runs(tmp_path):
    with marked(tmp_path) as mark:
        mark.check()
    with pytest.raises(UserError, match="does not see there"):
        mark.check()
    assert list(mark.folder.iterdir()) == []


def test_a_driver_that_was_killed_leaves_nothing_to_the_next(tmp_path):
    with marked(tmp_path) as killed:
        with marked(tmp_path) as other:
            other.check()
        killed.check()  # whoever else looks at the folder leaves the mark of the driver alone
        remove_drafts(StudyFolder(tmp_path))
        assert not killed.file.exists()


def test_a_folder_of_the_same_name_on_another_disk_is_refused_with_node_and_folder(tmp_path):
    with marked(tmp_path / "shared") as mark:
        local = Mark(tmp_path / "local" / "ray", mark.name)
        local.folder.mkdir(parents=True)
        with pytest.raises(UserError) as refused:
            local.check("gpu-7")
    (sentence,) = refused.value.problems
    assert sentence.startswith(f"study folder {tmp_path}/local: node gpu-7 does not see there what the driver has")
    assert sentence.endswith("name a folder on it with --out")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    with marked(tmp_path) as mark:
        monkeypatch.setattr(Path, "touch", refuse)
        assert mark.problem() == "cannot write there (Permission denied)"


def test_every_node_but_the_drivers_is_asked_and_all_that_fail_are_named(tmp_path, monkeypatch):
    def node(name: str, alive: bool = True) -> dict:
        return {"NodeID": name, "Alive": alive, "NodeManagerHostname": f"host-{name}", "NodeManagerAddress": "10.0.0.1"}

    class Context:
        get_node_id = staticmethod(lambda: DRIVER)

    asked = []

    def ask(mark, nodes):
        asked.extend(nodes)
        return {HERE: "", ELSEWHERE: "does not see there what the driver has written"}

    monkeypatch.setattr(ray, "nodes", lambda: [node(DRIVER), node(HERE), node(ELSEWHERE), node("gone", alive=False)])
    monkeypatch.setattr(ray, "get_runtime_context", Context)
    monkeypatch.setattr(storage, "_ask", ask)
    with marked(tmp_path) as mark, pytest.raises(UserError, match=r"node host-e \(10\.0\.0\.1\)") as refused:
        check_nodes(mark)
    assert len(refused.value.problems) == 1
    assert asked == [HERE, ELSEWHERE]
