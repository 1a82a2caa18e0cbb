from __future__ import annotations

import pytest

from advlora.config import DataConfig
from advlora.data import check_data, equal_captions, load_manifest
from advlora.data.check import too_many_samples
from tests.advlora.data.shard_files import write_shard

pytestmark = pytest.mark.unit


@pytest.fixture
def check(folder):
    return lambda **values: check_data(DataConfig(name=str(folder.path), **values))


@pytest.mark.parametrize("samples", [None, 1, 6])
def test_a_sound_data_set_has_no_problems(check, samples):
    assert check(train_samples=samples) == []


def test_all_problems_are_said_at_once(folder, check):
    (folder.path / "a.tar").unlink()
    (folder.path / "test.tar").write_bytes(b"something else")
    found = check(train_samples=7)
    assert len(found) == 3
    assert found[0] == "data.train_samples: 7 is more than the 6 of data set 'tiny'"
    assert "a.tar" in found[1]
    assert "cannot be read" in found[1]
    assert "test.tar" in found[2]
    assert "SHA-256" in found[2]


def test_shards_of_every_split_are_checked(folder, check):
    for file in folder.path.glob("*.tar*"):
        file.unlink()
    assert [name for name in ("a.tar", "b.tar.gz", "val.tar", "test.tar") if any(name in line for line in check())] == [
        "a.tar",
        "b.tar.gz",
        "val.tar",
        "test.tar",
    ]


def test_a_remote_shard_is_left_for_later(folder, check):
    folder.manifest["splits"]["val"]["shards"][0]["url"] = "http://127.0.0.1:1/absent.tar"
    folder.save()
    (folder.path / "val.tar").unlink()
    assert check() == []


def test_a_manifest_that_cannot_be_read_is_the_only_problem(folder, check):
    folder.manifest["splits"].pop("val")
    folder.save()
    (problem,) = check(train_samples=100)
    assert "val missing" in problem
    (problem,) = check_data(DataConfig(name="no-such-set"))
    assert "no-such-set" in problem


def test_captions_of_shards_are_compared_within_their_split_without_decoding_an_image(folder):
    folder.manifest |= {"task": "retrieval", "classes": [], "templates": []}
    texts = [b"a dog\na cat", b"a dog\na dog", b"a boot"]
    for split in ("val", "test"):
        shard = write_shard(folder.path / f"{split}.tar", [{"png": b"none", "txt": text} for text in texts])
        folder.manifest["splits"][split] = {"samples": len(texts), "shards": [shard]}
        texts = texts[1:]
    folder.save()
    found = equal_captions(DataConfig(name=str(folder.path)))
    assert (found["val"], found["test"]) == (3, 0), "of one image alone it may be written twice"


def test_the_limit_is_that_of_the_training_split(folder):
    manifest = load_manifest(DataConfig(name=str(folder.path)))
    counts = {split: manifest.splits[split].samples for split in ("train", "val", "test")}
    assert counts["train"] > max(counts["val"], counts["test"])
    assert too_many_samples(DataConfig(train_samples=counts["train"]), manifest) == []
    assert len(too_many_samples(DataConfig(train_samples=counts["train"] + 1), manifest)) == 1
