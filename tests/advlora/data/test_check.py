from __future__ import annotations

import numpy as np
import pytest

from advlora.config import DataConfig
from advlora.data import check_data, load_manifest, summarise
from advlora.data.check import bad_shards, too_many_samples
from tests.advlora.data.class_folders import class_folders, of
from tests.advlora.data.shard_files import image_bytes, write_shard

pytestmark = pytest.mark.unit
PNG = image_bytes(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


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
    assert "is missing" in found[1]
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
    found = summarise(DataConfig(name=str(folder.path))).splits
    assert (found["val"].equal_captions, found["test"].equal_captions) == (3, 0), (
        "of one image alone it may be written twice"
    )


def test_a_split_that_is_needed_is_missed(tmp_path):
    config = of(class_folders(tmp_path))
    (tmp_path / "val").rename(tmp_path / "held-out")
    assert check_data(config) == []
    assert check_data(config, ("test",)) == []
    (problem,) = check_data(config, ("train", "val", "test"))
    assert problem == f"data set '{tmp_path.name}' has no split 'val', which is needed here; it has train, test"


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "it is empty"), (b"text", "it is no image"), (PNG[:3000], "truncated")]
)
def test_an_image_that_cannot_be_read_is_named_with_its_reason(tmp_path, content, reason):
    config = of(class_folders(tmp_path))
    for place in ("train/cat/0000.png", "test/dog/0001.png"):
        (tmp_path / place).write_bytes(content)
    found = check_data(config, ("train", "val", "test"))
    assert len(found) == 2
    assert all(reason in problem for problem in found)
    assert f"'{tmp_path}/train/cat/0000.png' cannot be read" in found[0]


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        ({"png": PNG[:3000], "cls": b"0"}, "sample 0001: image file is truncated"),
        ({"png": b"", "cls": b"0"}, "sample 0001: it is empty"),
        ({"gltf": b"3d", "cls": b"0"}, "sample 0001: lacks an image; it holds .gltf, .cls, images are .jpg, "),
        ({"png": PNG, "cls": b"cat"}, "sample 0001: its .cls holds b'cat', not the number of a class"),
        ({"png": PNG, "cls": b"0", "txt": "naïve".encode("latin-1")}, "sample 0001: its .txt is not UTF-8 (byte 0xef"),
    ],
)
def test_damage_inside_a_shard_is_told_with_shard_sample_and_reason(folder, check, sample, reason):
    folder.replace_val([{"png": PNG, "cls": b"1"}, sample])
    (problem,) = check()
    assert problem.startswith("shard 'val.tar' of data set 'tiny' is damaged: ")
    assert reason in problem


def test_shards_of_the_package_are_known_by_their_hash_alone(folder):
    folder.replace_val([{"png": b"", "cls": b"1"}])
    manifest = load_manifest(DataConfig(name=str(folder.path)))
    assert bad_shards(manifest, folder.path, pinned=True) == []
    assert len(bad_shards(manifest, folder.path / "." / "", pinned=False, reopen=True)) == 1


def test_the_limit_is_that_of_the_training_split(folder):
    manifest = load_manifest(DataConfig(name=str(folder.path)))
    counts = {split: manifest.splits[split].samples for split in ("train", "val", "test")}
    assert counts["train"] > max(counts["val"], counts["test"])
    assert too_many_samples(DataConfig(train_samples=counts["train"]), manifest) == []
    assert len(too_many_samples(DataConfig(train_samples=counts["train"] + 1), manifest)) == 1
