from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit


def test_an_embedded_set_is_valid(advlora) -> None:
    answer = advlora("data", "check", "fashion-mnist", "--json")
    assert answer.code == 0
    assert json.loads(answer.out)["samples"] == {"train": 10000, "val": 2000, "test": 5000}


def test_what_is_wrong_with_a_folder_is_said(advlora, tmp_path: Path) -> None:
    entry = {"filename": "1.jpg", "split": "train", "sentences": []}
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": [entry]}))
    answer = advlora("data", "check", tmp_path)
    assert answer.code == 2
    assert "image 0 has no caption" in answer.err
    assert "split 'test' holds no image" in answer.err
