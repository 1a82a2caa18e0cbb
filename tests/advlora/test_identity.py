from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from advlora.config import ModelConfig
from advlora.identity import code_version, fingerprint, hash_files, local_content

pytestmark = pytest.mark.unit


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, content in {
        "a.py": "x = 1",
        "room/b.py": "y = 2",
        "embedded/model/weights.safetensors": "numbers",
        "embedded/model/open_clip_config.json": "{}",
    }.items():
        file = tmp_path / "package" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return tmp_path / "package"


def test_the_order_of_keys_does_not_matter_and_that_of_items_does():
    assert fingerprint({"a": 1, "b": {"c": 2, "d": None}}) == fingerprint({"b": {"d": None, "c": 2}, "a": 1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])
    assert fingerprint((1, 2)) == fingerprint([1, 2])


@pytest.mark.parametrize(
    "other", [{"a": 2}, {"b": 1}, {"a": "1"}, {"a": None}, {"a": 1.0000000001}, {"a": 1, "b": 1}, {}]
)
def test_other_data_have_another_fingerprint(other):
    assert fingerprint({"a": 1}) != fingerprint(other)


def test_parts_are_kept_apart():
    assert len({fingerprint("ab"), fingerprint("a", "b"), fingerprint(["a", "b"]), fingerprint("a", "b", None)}) == 4


def test_a_fingerprint_is_the_same_on_every_machine():
    assert fingerprint({"rank": 8, "kind": "lora"}, 0.1) == "d2901a9b1cb32eb3"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError):
        fingerprint({"a": [value]})


@pytest.mark.parametrize("value", [{1, 2}, Path("a"), object()])
def test_what_is_not_plain_data_is_refused(value):
    with pytest.raises(TypeError):
        fingerprint(value)


@pytest.mark.parametrize(
    "name", ["a.py", "room/b.py", "embedded/model/weights.safetensors", "embedded/model/open_clip_config.json"]
)
def test_content_and_name_of_what_makes_numbers_change_the_hash(package, name):
    before, file = hash_files(package), package / name
    content = file.read_text()
    file.write_text(content + " ")
    assert hash_files(package) != before
    file.write_text(content)
    assert hash_files(package) == before
    file.rename(file.with_stem("renamed"))
    assert hash_files(package) != before


def test_texts_and_the_place_of_the_package_do_not_change_the_hash(package, tmp_path):
    before = hash_files(package)
    for name in ("notes.txt", "room/README.md", "embedded/model/README.md", "room/b.pyc"):
        (package / name).write_text("words")
    assert hash_files(package) == before
    assert hash_files(Path(shutil.copytree(package, tmp_path / "elsewhere"))) == before


def test_swapped_contents_are_another_code(package):
    before = hash_files(package)
    first, second = package / "a.py", package / "room" / "b.py"
    texts = first.read_text(), second.read_text()
    first.write_text(texts[1])
    second.write_text(texts[0])
    assert hash_files(package) != before


def test_the_version_of_the_code_is_that_of_the_installed_package():
    import advlora

    assert code_version() == hash_files(Path(advlora.__file__).parent)
    assert len(code_version()) == 16


def test_a_model_trained_anew_into_the_same_folder_is_another(package):
    folder = package / "embedded/model"
    config = ModelConfig(source="open_clip", name=f"local-dir:{folder}")
    before = local_content(config)
    assert before == local_content(config)
    weights = folder / "weights.safetensors"
    weights.write_text("others!")
    os.utime(weights, ns=(1, 1))
    assert local_content(config) not in ("", before)


def test_a_checkpoint_file_has_content_and_a_name_on_a_hub_has_none(package):
    file = package / "embedded/model/weights.safetensors"
    of_file = local_content(ModelConfig(source="open_clip", name="ViT-B-32", pretrained=str(file)))
    assert of_file
    assert local_content(ModelConfig(source="open_clip", name="ViT-B-32", pretrained="laion2b_e16")) == ""
    assert local_content(ModelConfig(source="transformers", name="org/clip")) == ""
    assert local_content(ModelConfig()) == ""
