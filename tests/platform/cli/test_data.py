from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.unit


def test_an_embedded_set_is_valid(advlora) -> None:
    answer = advlora("data", "check", "fashion-mnist", "--json")
    assert answer.code == 0
    assert json.loads(answer.out)["samples"] == {"train": 10000, "val": 2000, "test": 5000}


def karpathy(folder: Path, captions: list[tuple[str, str]]) -> Path:
    entries = []
    for number, (split, caption) in enumerate(captions):
        Image.new("RGB", (8, 8)).save(folder / f"{number}.png")
        entries.append({"filename": f"{number}.png", "split": split, "sentences": [{"raw": caption}]})
    (folder / "dataset_coco.json").write_text(json.dumps({"images": entries}))
    return folder


def test_captions_that_several_images_have_are_counted(advlora, tmp_path: Path) -> None:
    captions = [("train", "a dog"), ("val", "a dog"), ("val", "a cat"), ("test", "a dog"), ("test", "a dog")]
    folder = karpathy(tmp_path, captions)
    answer = advlora("data", "check", folder, "--json")
    assert json.loads(answer.out)["equal_captions"] == {"train": 0, "val": 0, "test": 2}
    said = " ".join(advlora("data", "check", folder).out.split())
    assert "captions that another image has too: 0 train, 0 val, 2 test; each is right for all that have it" in said
    assert "equal_captions" not in json.loads(advlora("data", "check", "fashion-mnist", "--json").out)


def test_what_is_wrong_with_a_folder_is_said(advlora, tmp_path: Path) -> None:
    entry = {"filename": "1.jpg", "split": "train", "sentences": []}
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": [entry]}))
    answer = advlora("data", "check", tmp_path)
    assert answer.code == 2
    assert "image 0 has no caption" in answer.err
    assert "split 'test' holds no image" in answer.err
