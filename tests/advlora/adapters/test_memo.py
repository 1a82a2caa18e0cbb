from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from advlora.adapters import memo
from advlora.adapters.memo import content_hash, forget, recall

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "_memory", OrderedDict())


class Work:
    """A computation that counts how often it was done."""

    done = 0

    def __call__(self):
        self.done += 1
        return {"a": torch.arange(6.0).view(2, 3).T, "count": torch.tensor(self.done)}


@pytest.fixture
def work() -> Work:
    return Work()


def test_a_key_is_computed_once(work):
    first = recall("k", work)
    assert recall("k", work) is first
    assert work.done == 1
    recall("other", work)
    assert work.done == 2


def test_what_was_forgotten_is_computed_again(work):
    recall("k", work)
    forget()
    assert recall("k", work)["count"] == 2


def test_a_folder_is_read_by_a_process_that_knows_nothing(work, tmp_path: Path):
    folder = tmp_path / "new" / "folder"
    first = recall("k", work, folder)
    forget()
    second = recall("k", work, folder)
    assert work.done == 1
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    assert [file.name for file in folder.iterdir()] == ["k.safetensors"]


def test_without_a_folder_nothing_is_written(work, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recall("k", work)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_computed_again_and_replaced(work, tmp_path: Path):
    recall("k", work, tmp_path)
    file = tmp_path / "k.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    forget()
    assert recall("k", work, tmp_path)["count"] == 2
    assert load_file(file)["count"] == 2
    assert list(tmp_path.iterdir()) == [file]


def test_the_one_that_was_not_used_longest_makes_room(work, monkeypatch):
    monkeypatch.setattr(memo, "CAPACITY", 2)
    for key in ("a", "b", "a", "c", "a"):
        recall(key, work)
    assert work.done == 3
    recall("b", work)
    assert work.done == 4
    recall("a", work)
    assert work.done == 4


def test_a_failed_computation_leaves_nothing(tmp_path: Path):
    def fail():
        raise RuntimeError("no convergence")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="no convergence"):
            recall("k", fail, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_hash_is_that_of_the_content():
    weight = torch.arange(6.0).view(2, 3)
    assert content_hash(weight) == content_hash(weight.T.contiguous().T) == content_hash(torch.nn.Parameter(weight))
    others = (weight + 1e-6, weight.view(3, 2), weight.T, weight.double(), weight.int(), weight.flip(0))
    assert len({content_hash(weight), *map(content_hash, others)}) == 1 + len(others)
