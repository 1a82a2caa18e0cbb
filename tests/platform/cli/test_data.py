from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.advlora.data.class_folders import class_folders, image

pytestmark = pytest.mark.unit


def test_an_embedded_set_is_valid(advlora) -> None:
    answer = advlora("data", "check", "fashion-mnist", "--json")
    assert answer.code == 0
    found = json.loads(answer.out)
    assert found["samples"] == {"train": 10000, "val": 2000, "test": 5000}
    assert {name: sum(counts.values()) for name, counts in found["classes"].items()} == found["samples"]
    assert found["in_training"] == {"val": 0, "test": 0}
    assert "equal_captions" not in found


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


def test_what_a_set_holds_is_said_in_lines_of_80(advlora, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "pets", ["cat", "dog", "a class of a rather long name"], 3)
    image(folder / "train" / ".ipynb_checkpoints" / "x.png")
    (folder / "val" / "dog" / "0002.png").unlink()
    shutil.copy(folder / "train" / "cat" / "0001.png", folder / "test" / "cat" / "0009.png")
    assert advlora("data", "check", folder).out.splitlines() == [
        "data set 'pets' is valid: zero-shot",
        "  train  9 samples, 3 of 3 classes",
        "  val    8 samples, 3 of 3 classes",
        "  test   10 samples, 3 of 3 classes",
        "                                   train     val    test",
        "  a class of a rather long name        3       3       3",
        "  cat                                  3       3       4",
        "  dog                                  3       2       3",
        "equal files: 1 of 10 images of test are training images too",
        "left out: 1 that are no images, such as 'train/.ipynb_checkpoints'",
    ]


def test_many_classes_are_summed_up(advlora, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "many", [f"class {number:02d}" for number in range(21)], 1)
    image(folder / "train" / "class 07" / "more.png", 999)
    said = advlora("data", "check", folder).out.splitlines()
    assert said[1] == "  train  22 samples, 21 of 21 classes, 1 (class 00) to 2 (class 07)"
    assert said[2:] == [f"  {name:<6} 21 samples, 21 of 21 classes, 1 of each" for name in ("val", "test")]


def test_a_set_that_no_study_can_use_is_said_to_be_one(advlora, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "pets")
    shutil.rmtree(folder / "train")
    shutil.rmtree(folder / "val")
    said = advlora("data", "check", folder).out.splitlines()
    assert said[1:3] == ["  train  none", "  val    none"]
    assert said[-1] == "no study can use it: it has no train and no val ('advlora evaluate' can measure test)"
    assert json.loads(advlora("data", "check", folder, "--json").out)["missing"] == ["train", "val"]


def test_a_study_on_a_set_without_a_split_or_with_a_damaged_image_is_refused(advlora, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "pets")
    (folder / "val").rename(folder / "held-out")
    (folder / "test" / "cat" / "0000.png").write_bytes(b"")
    answer = advlora("validate", "quickstart", "--set", f"data.name={folder}", "--set", "data.train_samples=4")
    assert answer.code == 2
    assert "data set 'pets' has no split 'val', which is needed here; it has train, test" in answer.err
    assert "test/cat/0000.png' cannot be read: it is empty" in answer.err


def test_names_that_a_published_list_repeats_are_noted(advlora, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "imagenet", [f"n{number:08d}" for number in range(1000)], 1)
    shutil.rmtree(folder / "train")
    shutil.rmtree(folder / "val")
    (folder / "prompts.txt").unlink()
    answer = advlora("data", "check", folder, "--classes", "openai-imagenet", "--templates", "simple")
    (note,) = [line for line in answer.out.splitlines() if line.startswith("equal names")]
    assert note.startswith("equal names: 'missile', 'sunglasses', of several classes each")
    assert advlora("data", "check", folder, "--templates", "siple").err == (
        "error: data.templates: 'siple' is not allowed; allowed: 'openai' or 'simple'; did you mean 'simple'?\n"
    )


def test_what_is_wrong_with_a_folder_is_said(advlora, tmp_path: Path) -> None:
    entry = {"filename": "1.jpg", "split": "train", "sentences": []}
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": [entry]}))
    answer = advlora("data", "check", tmp_path)
    assert answer.code == 2
    assert "image 0 has no caption" in answer.err
    assert "split 'test' holds no image" in answer.err
