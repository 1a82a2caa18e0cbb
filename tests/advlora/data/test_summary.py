from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from advlora.config import DataConfig
from advlora.data import summarise
from tests.advlora.data.class_folders import class_folders, image, of
from tests.advlora.data.shard_files import grey, write_shard

pytestmark = pytest.mark.unit


def test_classes_are_counted_in_every_split(tmp_path: Path) -> None:
    config = of(class_folders(tmp_path, ["cat", "dog", "fox"]))
    image(tmp_path / "train" / "cat" / "more.png", 99)
    shutil.rmtree(tmp_path / "test" / "fox")
    found = summarise(config)
    assert found.splits["train"].counts == {"cat": 3, "dog": 2, "fox": 2}
    assert found.splits["test"].counts == {"cat": 2, "dog": 2, "fox": 0}
    assert [split.classes_seen for split in found.splits.values()] == [3, 3, 2]


def test_training_images_that_are_in_another_split_are_found_by_their_content(tmp_path: Path) -> None:
    config = of(class_folders(tmp_path))
    shutil.copy(tmp_path / "train" / "cat" / "0000.png", tmp_path / "test" / "dog" / "other-name.png")
    shutil.copy(tmp_path / "train" / "cat" / "0001.png", tmp_path / "val" / "cat" / "0000.png")
    shutil.copy(tmp_path / "train" / "dog" / "0001.png", tmp_path / "train" / "cat" / "again.png")
    found = summarise(config).splits
    assert {name: split.in_training for name, split in found.items()} == {"train": 0, "val": 1, "test": 1}
    assert {name: split.repeated for name, split in found.items()} == {"train": 1, "val": 0, "test": 0}


def test_shards_are_summarised_alike_and_remote_ones_are_not_read(folder) -> None:
    samples = [{"png": grey(i), "cls": b"1", "txt": b"a dog"} for i in (10, 90, 90)]
    folder.replace_val(samples)
    remote = {**write_shard(folder.path / "far.tar", samples), "url": "http://127.0.0.1:1/far.tar"}
    folder.manifest["splits"]["test"] = {"samples": 3, "shards": [remote]}
    folder.save()
    found = summarise(DataConfig(name=str(folder.path))).splits
    assert found["train"].counts == {"cat": 3, "dog": 3}
    assert (found["val"].in_training, found["val"].repeated, found["val"].classes_seen) == (1, 1, 1)
    assert (found["test"].samples, found["test"].read, found["test"].classes_seen) == (3, 0, 0)
    assert all(split.equal_captions == 0 for split in found.values()), "of classes, captions are equal by design"
