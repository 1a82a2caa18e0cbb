"""Image folders as people have them: what is taken, what is left out, and what is refused."""

from __future__ import annotations

import codecs
import json
import os
import unicodedata
from pathlib import Path

import pytest

from advlora.config import DataConfig
from advlora.data import check_data, load_manifest, load_split
from advlora.data.files import IMAGE_SUFFIXES
from advlora.data.layouts import layout_of, listing
from advlora.models import Preprocessing
from tests.advlora.data.class_folders import class_folders, image, of

pytestmark = pytest.mark.unit


def counts(config: DataConfig) -> dict[str, int]:
    return {name: split.samples for name, split in load_manifest(config).splits.items()}


@pytest.mark.parametrize(
    "place",
    [
        "train/.ipynb_checkpoints/0001-checkpoint.png",
        "val/@eaDir/0001.png",
        "test/__MACOSX/0001.png",
        "train/cat/._0000.png",
        "train/cat/.DS_Store",
        "train/.DS_Store",
        "train/cat/Thumbs.db",
        "train/cat/@eaDir/0000.png",
        "train/dog/desktop.ini",
        ".git/train/cat/0000.png",
    ],
)
def test_what_is_hidden_or_of_a_tool_is_neither_class_nor_image(tmp_path: Path, place: str) -> None:
    before = load_manifest(of(class_folders(tmp_path / "clean"))).hash
    config = of(class_folders(tmp_path / "set"))
    image(Path(config.name) / place)
    assert check_data(config) == []
    assert load_manifest(config).classes == ("cat", "dog")
    assert counts(config) == {"train": 4, "val": 4, "test": 4}
    assert load_manifest(config).hash == before
    assert len(listing(config).left_out) == (0 if place.startswith(".git") else 1)


@pytest.mark.parametrize("pair", [("hot_dog", "hot dog"), ("Dog", "dog"), ("big  cat", "big cat")])
def test_folders_of_one_class_name_are_refused_unless_they_are_named_apart(tmp_path: Path, pair) -> None:
    config = of(class_folders(tmp_path / "set", [*pair, "fox"]))
    (problem,) = check_data(config)
    assert all(f"'{name}'" in problem for name in pair)
    assert "are both class" in problem
    named = of(class_folders(tmp_path / "named", [*pair, "fox"]))
    given = {pair[0]: "one thing", pair[1]: "another thing", "fox": "fox"}
    (tmp_path / "named" / "classes.json").write_text(json.dumps(given))
    assert check_data(named) == []


def test_names_in_classes_json_must_differ_too(tmp_path: Path) -> None:
    config = of(class_folders(tmp_path, ["n01", "n02"]))
    (tmp_path / "classes.json").write_text(json.dumps({"n01": "crane", "n02": "crane"}))
    (problem,) = check_data(config)
    assert problem == (
        "folders 'n01' and 'n02' are both class 'crane' to a text tower; merge them, or name them in classes.json"
    )


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_class_is_one_however_its_accents_are_written(tmp_path: Path, forms) -> None:
    config = of(class_folders(tmp_path / "set", ["café", "bar"]))
    for split, form in zip(("train", "test"), forms, strict=True):
        place = tmp_path / "set" / split
        (place / "café").rename(place / "elsewhere")
        (place / "elsewhere").rename(place / unicodedata.normalize(form, "café"))
    (tmp_path / "set" / "classes.json").write_text(
        json.dumps({unicodedata.normalize("NFD", "café"): "café", "bar": "bar"})
    )
    assert check_data(config) == []
    assert load_manifest(config).classes == ("bar", unicodedata.normalize("NFC", "café"))
    same = of(class_folders(tmp_path / "same", ["café", "bar"]))
    assert load_manifest(same).hash == load_manifest(config).hash


@pytest.mark.parametrize("name", [None, ["tench", "Tinca tinca"], 7, "", "  ", {"en": "tench"}])
def test_a_class_is_named_by_a_text(tmp_path: Path, name: object) -> None:
    config = of(class_folders(tmp_path))
    (tmp_path / "classes.json").write_text(json.dumps({"cat": name, "dog": "dog", "elsewhere": None}))
    (problem,) = check_data(config)
    assert problem.startswith("classes.json: 'cat' must have a name, a text such as 'tench', but has ")


@pytest.mark.parametrize("content", ["[]", "null", '"cat"', "3"])
def test_classes_json_holds_a_mapping(tmp_path: Path, content: str) -> None:
    config = of(class_folders(tmp_path))
    (tmp_path / "classes.json").write_text(content)
    assert "must hold a mapping of folders to names" in check_data(config)[0]


@pytest.mark.parametrize("suffix", [*IMAGE_SUFFIXES, ".PNG", ".JPG", ".Tif"])
def test_every_usual_suffix_is_read_in_any_case(tmp_path: Path, suffix: str) -> None:
    config = of(class_folders(tmp_path))
    for split in ("train", "val", "test"):
        for file in (tmp_path / split / "cat").iterdir():
            file.rename(file.with_suffix(suffix))
    assert check_data(config) == []
    assert counts(config) == {"train": 4, "val": 4, "test": 4}


def test_a_class_without_an_image_that_is_known_is_refused_by_its_suffix(tmp_path: Path) -> None:
    config = of(class_folders(tmp_path))
    for file in (tmp_path / "val" / "cat").iterdir():
        file.rename(file.with_suffix(".heic"))
    (tmp_path / "train" / "fox").mkdir()
    unread, empty = check_data(config)
    assert "class folder 'val/cat' holds 2 files with suffix .heic, and no image; images have .jpg" in unread
    assert empty == "class 'fox' has no image in any split"


@pytest.mark.parametrize(
    ("given", "split"),
    [
        *[("valid", "val"), ("validation", "val"), ("Val", "val")],
        *[("training", "train"), ("TEST", "test"), ("testing", "test")],
    ],
)
def test_splits_are_known_by_their_usual_names(tmp_path: Path, given: str, split: str) -> None:
    class_folders(tmp_path)
    (tmp_path / split).rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").rename(tmp_path / given)
    config = DataConfig(name=str(tmp_path))
    assert layout_of(config) == "folders"
    assert check_data(config, ("train", "val", "test")) == []
    assert counts(config) == {"train": 4, "val": 4, "test": 4}


def test_a_split_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    config = of(class_folders(tmp_path))
    (tmp_path / "valid").mkdir()
    assert "holds 'val' and 'valid', which are both split 'val'; keep one" in check_data(config)[0]


def test_what_lies_in_the_wrong_place_is_named(tmp_path: Path) -> None:
    config = of(class_folders(tmp_path))
    image(tmp_path / "train" / "loose.png")
    (tmp_path / "train" / "cat" / "x.png").mkdir()
    (tmp_path / "train" / "labels.csv").write_text("left out")
    found = check_data(config)
    assert found == [
        "'train/loose.png' lies in no class folder",
        "'train/cat/x.png' is a folder inside a class folder, which holds images alone",
    ]
    assert listing(config).left_out == ("train/labels.csv",)


def test_many_problems_of_a_kind_are_counted(tmp_path: Path) -> None:
    config = of(class_folders(tmp_path))
    for number in range(8):
        image(tmp_path / "train" / f"loose{number}.png")
    found = check_data(config)
    assert len(found) == 6
    assert found[-1] == "and 3 more of this kind"


@pytest.mark.parametrize("place", [b"train/\xe9t\xe9", b"train/cat"])
def test_names_that_are_not_utf_8_are_refused_in_words_that_can_be_printed(tmp_path: Path, place: bytes) -> None:
    config = of(class_folders(tmp_path))
    image(os.fsdecode(os.fsencode(tmp_path) + b"/" + place + b"/\xe9.png"))
    (problem,) = check_data(config)
    assert problem.endswith("has a name that is not UTF-8; rename it")
    assert r"\xe9" in problem.encode().decode()


TEXT = "a photo of a {}, naïve\nune photo d'un {}\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        TEXT.replace("\n", "\r\n").encode(),
    ],
)
def test_prompts_are_read_in_every_encoding_that_says_what_it_is(tmp_path: Path, content: bytes) -> None:
    config = of(class_folders(tmp_path))
    (tmp_path / "prompts.txt").write_bytes(content)
    (tmp_path / "classes.json").write_bytes(codecs.BOM_UTF8 + json.dumps({"cat": "cat", "dog": "dog"}).encode())
    assert check_data(config) == []
    assert load_manifest(config).templates == ("a photo of a {}, naïve", "une photo d'un {}")


@pytest.mark.parametrize("file", ["prompts.txt", "classes.json"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{}\nnaïve".encode("latin-1"), "is not UTF-8 (byte 0xef in line 2), perhaps Latin-1; save it as UTF-8"),
        ("a {}".encode("utf-16-le"), "holds zero bytes, as UTF-16 without a byte-order mark does; save it as UTF-8"),
        (codecs.BOM_UTF16_LE + b"abc", "is not the UTF-16 that its first bytes announce"),
    ],
)
def test_other_encodings_are_refused_in_one_sentence(tmp_path: Path, file: str, content: bytes, reason: str) -> None:
    config = of(class_folders(tmp_path))
    (tmp_path / file).write_bytes(content)
    (problem,) = check_data(config)
    assert problem.startswith(f"{tmp_path / file} ")
    assert reason in problem


def test_what_check_calls_valid_can_be_read(tmp_path: Path) -> None:
    config = of(class_folders(tmp_path, ["cat", "dog", "Ölbild"], 5))
    assert check_data(config, ("train", "val", "test")) == []
    for split in ("train", "val", "test"):
        assert len(load_split(config, split, Preprocessing(4))) == 15
