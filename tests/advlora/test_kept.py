from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from advlora.errors import UserError
from advlora.kept import draft_of, keep_tensors, kept_tensors
from tests.limits import disk_of_a_mebibyte, files_of_at_most

pytestmark = pytest.mark.unit


def test_tensors_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor(2)}
    keep_tensors(tmp_path / "new" / "file", tensors)
    torch.testing.assert_close(kept_tensors(tmp_path / "new" / "file"), tensors, rtol=0, atol=0)
    assert kept_tensors(tmp_path / "absent") is None


def test_what_fails_leaves_no_draft_and_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("before")
    with pytest.raises(ZeroDivisionError), draft_of(file) as draft:
        draft.write_bytes(bytes(draft.write_text("half") // 0))
    assert [place.name for place in tmp_path.iterdir()] == ["file"]
    assert file.read_text() == "before"


def test_a_full_disk_is_one_sentence_and_leaves_no_draft(tmp_path: Path) -> None:
    with disk_of_a_mebibyte(tmp_path / "small") as disk:
        keep_tensors(disk / "first", {"a": torch.zeros(1000)})
        with pytest.raises(UserError, match=rf"cannot write to '{disk}': No space left on device; make room"):
            keep_tensors(disk / "second", {"a": torch.zeros(1 << 20)}, "make room")
        assert [file.name for file in disk.iterdir()] == ["first"]


def test_a_file_that_grows_too_large_is_one_sentence(tmp_path: Path) -> None:
    with files_of_at_most(1000), pytest.raises(UserError, match="File too large; free space there"):
        keep_tensors(tmp_path / "file", {"a": torch.zeros(1000)})
    assert os.listdir(tmp_path) == []


def test_without_a_place_to_write_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    keep_tensors(tmp_path / "file" / "below", {"a": torch.zeros(1)})
    assert kept_tensors(tmp_path / "file" / "below") is None
