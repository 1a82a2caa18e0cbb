from __future__ import annotations

import errno

import pytest

from advlora.errors import UserError
from advlora_platform.study.folder import StudyFolder, read_json, remove_drafts, write_file, write_json

pytestmark = pytest.mark.unit


def test_what_is_written_is_read_and_no_draft_is_left(tmp_path):
    write_json(tmp_path / "deep" / "x.json", {"name": "à la carte", "values": [1, 2.5, None]})
    assert read_json(tmp_path / "deep" / "x.json") == {"name": "à la carte", "values": [1, 2.5, None]}
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["x.json"]
    assert read_json(tmp_path / "absent.json") is None


def test_a_file_that_could_not_be_written_leaves_the_old_one(tmp_path):
    write_json(tmp_path / "x.json", {"old": True})

    def full(file):
        file.write(b"{")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*/x\.json'"):
        write_file(tmp_path / "x.json", full)
    assert read_json(tmp_path / "x.json") == {"old": True}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("content", [b"", b'{"trial_id": "a', b"\xff\xfe", b"[]", b"null"])
def test_a_damaged_file_is_one_sentence_that_names_it(tmp_path, content):
    (tmp_path / "abc.json").write_bytes(content)
    with pytest.raises(UserError, match=r"abc\.json is damaged \(.*\); restore it from a copy, or remove it"):
        read_json(tmp_path / "abc.json")


def test_the_drafts_of_dead_processes_are_removed_and_nothing_else(tmp_path):
    left = [tmp_path / "ledger" / "a.json.1f.tmp", tmp_path / "trials" / "a" / "state.pt.2e.tmp"]
    left += [tmp_path / "summary.json.4c.tmp", tmp_path / "cache" / "tmp1.tmp", tmp_path / "ray" / "driver-5b"]
    kept = [tmp_path / "ledger" / "a.json", tmp_path / "trials" / "a" / "state.pt", tmp_path / "lease.json.3d.tmp"]
    for file in [*left, *kept]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    remove_drafts(StudyFolder(tmp_path))
    assert [file for file in [*left, *kept] if file.exists()] == kept
