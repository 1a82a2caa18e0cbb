"""Folders exactly as torchvision's data sets lay them out, with a few images."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from scipy.io import savemat
from torchvision.datasets import Flowers102

from advlora.config import DataConfig
from advlora.data import check_data, load_manifest, load_split
from advlora.data.layouts import layout_of
from advlora.models import Preprocessing
from tests.advlora.data.class_folders import image

pytestmark = pytest.mark.unit


def food(root: Path) -> Path:
    folder = root / "food-101"
    for split, count in (("train", 2), ("test", 1)):
        names = {name: [f"{name}/{split}{number}" for number in range(count)] for name in ("hot_dog", "apple_pie")}
        for number, path in enumerate(path for paths in names.values() for path in paths):
            image(folder / "images" / f"{path}.jpg", 10 * count + number)
        (folder / "meta").mkdir(exist_ok=True)
        (folder / "meta" / f"{split}.json").write_text(json.dumps(names))
    return folder


def pets(root: Path) -> Path:
    folder = root / "oxford-iiit-pet"
    (folder / "annotations").mkdir(parents=True)
    for split, numbers in (("trainval", (1, 2)), ("test", (3,))):
        breeds = (("Abyssinian", 1, 1), ("american_bulldog", 2, 2))
        lines = [f"{name}_{number} {label} {kind} 1" for name, label, kind in breeds for number in numbers]
        (folder / "annotations" / f"{split}.txt").write_text("\n".join(lines) + "\n")
        for place, line in enumerate(lines):
            image(folder / "images" / f"{line.split()[0]}.jpg", 50 + len(numbers) * 10 + place)
    return folder


def textures(root: Path) -> Path:
    folder = root / "dtd"
    (folder / "dtd" / "labels").mkdir(parents=True)
    for number, split in enumerate(("train", "val", "test")):
        paths = [f"{name}/{name}_{number}.jpg" for name in ("banded", "polka-dotted")]
        (folder / "dtd" / "labels" / f"{split}1.txt").write_text("\n".join(paths) + "\n")
        for place, path in enumerate(paths):
            image(folder / "dtd" / "images" / path, 100 + 2 * number + place)
    return folder


def satellite(root: Path) -> Path:
    for number, name in enumerate(("AnnualCrop", "SeaLake")):
        image(root / "eurosat" / "2750" / name / f"{name}_1.jpg", 200 + number)
    return root / "eurosat"


def flowers(root: Path, monkeypatch) -> Path:
    folder = root / "flowers-102"
    for number in range(1, 5):
        image(folder / "jpg" / f"image_{number:05d}.jpg", 300 + number)
    savemat(folder / "imagelabels.mat", {"labels": [77, 1, 77, 102]})
    savemat(folder / "setid.mat", {"trnid": [1, 2], "valid": [3, 4], "tstid": [4, 1]})
    for kind, name in (("label", "imagelabels.mat"), ("setid", "setid.mat")):
        # torchvision knows the published files by their MD5.
        digest = hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()
        monkeypatch.setitem(Flowers102._file_dict, kind, (name, digest))
    return folder


def held(folder: Path) -> tuple[str, tuple[str, ...], dict[str, int]]:
    """Layout, classes, and samples by split, of a set without prompts of its own."""
    config = DataConfig(name=str(folder), templates="simple")
    assert check_data(config) == []
    manifest = load_manifest(config)
    return layout_of(config), manifest.classes, {name: split.samples for name, split in manifest.splits.items()}


def test_sets_are_read_as_torchvision_lays_them_out(tmp_path: Path) -> None:
    assert held(food(tmp_path)) == ("torchvision", ("apple pie", "hot dog"), {"train": 4, "val": 0, "test": 2})
    assert held(pets(tmp_path)) == (
        "torchvision",
        ("Abyssinian", "American Bulldog"),
        {"train": 4, "val": 0, "test": 2},
    )
    assert held(textures(tmp_path)) == ("torchvision", ("banded", "polka-dotted"), {"train": 2, "val": 2, "test": 2})
    assert held(satellite(tmp_path)) == ("torchvision", ("Annual Crop", "Sea Lake"), {"train": 0, "val": 0, "test": 2})


def test_flowers_have_the_names_of_torchvision(tmp_path: Path, monkeypatch) -> None:
    layout, classes, samples = held(flowers(tmp_path, monkeypatch))
    assert (layout, classes) == ("torchvision", tuple(name.replace("_", " ") for name in Flowers102.classes))
    assert samples == {"train": 2, "val": 2, "test": 2}
    data = load_split(DataConfig(name=str(tmp_path / "flowers-102"), templates="simple"), "test", Preprocessing(6))
    assert sorted(data.labels.tolist()) == [76, 101]
    (tmp_path / "flowers-102" / "setid.mat").write_bytes(b"other")
    (problem,) = check_data(DataConfig(name=str(tmp_path / "flowers-102"), frames=2))
    assert problem.startswith("torchvision.datasets.Flowers102 cannot read folder")


def test_a_label_belongs_to_its_image(tmp_path: Path) -> None:
    folder = pets(tmp_path)
    (folder / "prompts.txt").write_text("a photo of a {}, a type of pet\n")
    data = load_split(DataConfig(name=str(folder)), "test", Preprocessing(6))
    assert {(label, caption) for label, caption in zip(data.labels.tolist(), data.captions, strict=True)} == {
        (0, "a photo of a Abyssinian, a type of pet"),
        (1, "a photo of a American Bulldog, a type of pet"),
    }


def test_a_test_split_alone_is_enough_and_a_missing_image_is_named(tmp_path: Path) -> None:
    folder = food(tmp_path)
    (folder / "meta" / "train.json").unlink()
    assert held(folder)[2] == {"train": 0, "val": 0, "test": 2}
    (folder / "images" / "hot_dog" / "test0.jpg").unlink()
    (problem,) = check_data(DataConfig(name=str(folder), templates="simple"), reopen=True)
    assert "hot_dog/test0.jpg' is missing" in problem


@pytest.mark.parametrize(
    ("name", "sign", "why"),
    [
        ("cifar-10-batches-py", "test_batch", "Python pickles, which may run code when they are read"),
        ("cifar-100-python", "meta", "Python pickles"),
        ("stl10_binary", "test_X.bin", "all images in one file"),
    ],
)
def test_sets_without_files_of_images_are_refused_with_a_way_out(
    tmp_path: Path, name: str, sign: str, why: str
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / sign).write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    (problem,) = check_data(DataConfig(name=str(tmp_path / name)))
    assert f"{name}' holds {why}" in problem
    assert "save the images of torchvision.datasets." in problem
    assert "as test/CLASS/NUMBER.png, or take CLIP_benchmark's wds_" in problem


def test_a_folder_of_ones_own_may_have_such_a_name(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        image(tmp_path / "eurosat" / "test" / name / "1.png", number)
    assert layout_of(DataConfig(name=str(tmp_path / "eurosat"))) == "folders"
    (problem,) = check_data(DataConfig(name=str(tmp_path), layout="torchvision"))
    assert "is called like none of torchvision's: flowers-102, food-101" in problem
