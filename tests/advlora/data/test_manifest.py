from __future__ import annotations

import subprocess
import sys

import pytest

from advlora.config import DataConfig
from advlora.data import check_data, embedded_data, load_manifest
from advlora.errors import DataError

pytestmark = pytest.mark.unit


def problems(folder) -> list[str]:
    folder.save()
    return check_data(DataConfig(name=str(folder.path)))


def test_the_embedded_data_set_has_no_problems():
    assert "fashion-mnist" in embedded_data()
    assert check_data(DataConfig()) == []
    manifest = load_manifest(DataConfig())
    assert len(manifest.classes) == 10
    assert manifest.splits["train"].samples == 10000


def test_reading_a_manifest_does_not_import_torch():
    code = "import sys; from advlora.data import load_manifest, check_data; from advlora.config import DataConfig; "
    code += "load_manifest(DataConfig()); check_data(DataConfig()); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_unknown_name_gets_the_nearest_known_one():
    (problem,) = check_data(DataConfig(name="fashion-mnits"))
    assert "'fashion-mnits'" in problem
    assert "did you mean 'fashion-mnist'" in problem


def test_a_folder_without_manifest_is_named(tmp_path):
    with pytest.raises(DataError, match=r"holds no dataset\.json"):
        load_manifest(DataConfig(name=str(tmp_path)))


def test_a_manifest_that_is_not_json_is_a_problem(folder):
    (folder.path / "dataset.json").write_text("{")
    with pytest.raises(DataError, match="not readable JSON"):
        load_manifest(DataConfig(name=str(folder.path)))


def test_all_problems_of_a_manifest_are_said_with_their_keys(folder):
    del folder.manifest["classes"]
    folder.manifest["template"] = folder.manifest.pop("templates")
    found = "\n".join(problems(folder))
    assert "key 'classes' is required" in found
    assert "key 'templates' is required" in found
    assert "unknown key 'template'; did you mean 'templates'?" in found


def test_two_classes_of_ones_own_must_not_have_one_name(folder):
    folder.manifest["classes"] = ["hot dog", "Hot  Dog"]
    (problem,) = problems(folder)
    assert problem.endswith("classes: names must differ by more than case and spaces: 'hot dog' and 'Hot  Dog'")


@pytest.mark.parametrize("url", ["../secret.tar", "/etc/passwd", "a/../../b.tar", "pipe:touch x", "ftp://host/a.tar"])
def test_a_shard_outside_the_folder_is_refused(folder, url):
    folder.manifest["splits"]["val"]["shards"][0]["url"] = url
    (problem,) = problems(folder)
    assert f"'{url}'" in problem
    assert "inside the folder" in problem


@pytest.mark.parametrize("template", ["a photo", "{} and {}", "{0}", "{} {x}", "{{}}"])
def test_a_template_has_one_plain_slot(folder, template):
    folder.manifest["templates"] = [template]
    assert "exactly once" in problems(folder)[0]


def test_a_missing_split_and_a_wrong_sum_are_problems(folder):
    del folder.manifest["splits"]["test"]
    assert "test missing" in problems(folder)[0]
    folder.manifest["splits"]["test"] = {**folder.manifest["splits"]["val"], "samples": 9}
    assert "samples is 9, but the shards hold 1" in problems(folder)[0]


def test_more_training_samples_than_there_are_is_a_problem(folder):
    config = DataConfig(name=str(folder.path), train_samples=7)
    assert check_data(config) == ["data.train_samples: 7 is more than the 6 of data set 'tiny'"]
    assert check_data(config.model_copy(update={"train_samples": 6})) == []


def test_every_bad_shard_is_named(folder):
    (folder.path / "a.tar").unlink()
    (folder.path / "val.tar").write_bytes(b"nothing")
    missing, damaged = problems(folder)
    assert "a.tar" in missing
    assert "is missing" in missing
    assert "val.tar" in damaged
    assert "SHA-256" in damaged


def test_the_hash_follows_shards_classes_and_templates_only(folder):
    def current() -> str:
        folder.save()
        return load_manifest(DataConfig(name=str(folder.path))).hash

    before = current()
    folder.manifest["licence"] = "MIT"
    assert current() == before
    folder.manifest["classes"] = ["cat", "wolf"]
    renamed = current()
    folder.manifest["templates"] = ["the {}"]
    rephrased = current()
    folder.manifest["splits"]["val"]["shards"][0]["sha256"] = "0" * 64
    assert len({before, renamed, rephrased, current()}) == 4
