from __future__ import annotations

import json
import multiprocessing
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from advlora.config import DataConfig
from advlora.data import ImageTextSet, load_split, splits
from advlora.data.cache import cache_folder
from advlora.errors import DataError
from advlora.models import Preprocessing
from tests.advlora.data.shard_files import grey, write_shard
from tests.limits import disk_of_a_mebibyte

pytestmark = pytest.mark.unit
SAMPLES = 10


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADVLORA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def sharded(folder) -> DataConfig:
    """Ten samples in shards of one to four."""
    shards = [
        write_shard(
            folder.path / f"s{i}.tar", [{"png": grey(4 * i + j), "cls": str(j % 2).encode()} for j in range(i + 1)]
        )
        for i in range(4)
    ]
    folder.manifest["splits"]["train"] = {"samples": SAMPLES, "shards": shards}
    folder.save()
    return DataConfig(name=str(folder.path), store="disk")


@pytest.fixture
def karpathy(tmp_path: Path) -> DataConfig:
    """Seven images with two captions each."""
    entries = []
    for number in range(7):
        Image.fromarray(np.full((10, 12, 3), 9 * number, np.uint8)).save(tmp_path / f"{number}.png")
        split = "train" if number < 5 else ("val", "test")[number - 5]
        sentences = [{"raw": f"caption {i} of {number}"} for i in range(2)]
        entries.append({"filename": f"{number}.png", "split": split, "sentences": sentences})
    (tmp_path / "dataset_flickr30k.json").write_text(json.dumps({"images": entries}))
    return DataConfig(name=str(tmp_path), layout="karpathy", store="disk")


def in_memory(config: DataConfig) -> DataConfig:
    return config.model_copy(update={"store": "memory"})


@pytest.mark.parametrize("kind", ["sharded", "karpathy"])
@pytest.mark.parametrize("limit", [None, 1, 3])
def test_what_is_stored_is_what_memory_would_hold(kind: str, limit: int | None, request, monkeypatch) -> None:
    monkeypatch.setattr(splits, "CHUNK", 2)
    config = request.getfixturevalue(kind)
    stored, loaded = (load_split(c, "train", Preprocessing(8), limit) for c in (config, in_memory(config)))
    assert torch.equal(stored.images, loaded.images)
    assert torch.equal(stored.labels, loaded.labels)
    assert stored.references == loaded.references


def test_a_set_is_decoded_once_and_only_as_far_as_it_is_wanted(sharded: DataConfig, cache: Path, monkeypatch) -> None:
    decoded = []
    read = splits.read_shard
    monkeypatch.setattr(splits, "read_shard", lambda shard, folder: decoded.append(shard.url) or read(shard, folder))
    load_split(sharded, "train", Preprocessing(8), 2)
    assert sorted(decoded) == ["s0.tar", "s1.tar"]
    load_split(sharded, "train", Preprocessing(8))
    load_split(sharded, "train", Preprocessing(8))
    assert sorted(decoded) == ["s0.tar", "s1.tar", "s2.tar", "s3.tar"]
    assert sorted(file.suffix for file in cache.rglob("*.*")) == [".json"] * 4 + [".npy"]


def test_another_recipe_is_decoded_anew(karpathy: DataConfig) -> None:
    recipes = [Preprocessing(8), Preprocessing(8, "squash"), Preprocessing(8, "squash", "bilinear")]
    for recipe in recipes:
        stored, loaded = (load_split(c, "train", recipe) for c in (karpathy, in_memory(karpathy)))
        assert torch.equal(stored.images, loaded.images)
    assert len(list(cache_folder("images").iterdir())) == len(recipes)


def test_changes_of_a_mapped_set_reach_nobody_else(sharded: DataConfig) -> None:
    load_split(sharded, "train", Preprocessing(8)).images[:] = 255
    assert load_split(sharded, "train", Preprocessing(8)).images.max() < 255


def _load(config: DataConfig, start: multiprocessing.synchronize.Barrier, found: multiprocessing.Queue) -> None:
    start.wait()
    found.put((os.getpid(), load_split(config, "train", Preprocessing(8)).images.numpy().copy()))


def test_processes_share_the_work_and_see_the_same(sharded: DataConfig) -> None:
    context = multiprocessing.get_context("spawn")
    start, found = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_load, args=(sharded, start, found)) for _ in range(2)]
    for process in processes:
        process.start()
    results = [found.get(timeout=120)[1] for _ in processes]
    for process in processes:
        process.join(30)
    for images in results:
        assert np.array_equal(images, load_split(in_memory(sharded), "train", Preprocessing(8)).images.numpy())


def test_a_part_that_was_not_finished_is_decoded_anew(sharded: DataConfig, cache: Path) -> None:
    load_split(sharded, "train", Preprocessing(8))
    (array,) = cache.rglob("images.npy")
    np.lib.format.open_memmap(array, "r+")[3:6] = 0
    (array.parent / "000000003-3.json").unlink()  # what a process that was killed at its third shard would leave
    assert torch.equal(
        load_split(sharded, "train", Preprocessing(8)).images,
        load_split(in_memory(sharded), "train", Preprocessing(8)).images,
    )


def test_a_damaged_shard_is_refused_and_leaves_the_others(sharded: DataConfig, cache: Path) -> None:
    (Path(sharded.name) / "s3.tar").write_bytes(b"damage")
    with pytest.raises(DataError, match="is damaged or was changed"):
        load_split(sharded, "train", Preprocessing(8))
    assert len(load_split(sharded, "train", Preprocessing(8), 6)) == 6


def test_a_split_without_samples_is_refused(karpathy: DataConfig) -> None:
    with pytest.raises(DataError, match="has no samples in split 'holdout'"):
        load_split(karpathy, "holdout", Preprocessing(8))


def test_a_folder_that_cannot_be_written_is_one_sentence(sharded: DataConfig, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ADVLORA_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"'disk' cannot write to .*; ADVLORA_CACHE names another folder"):
        load_split(sharded, "train", Preprocessing(8))


def test_a_full_disk_is_one_sentence_and_what_is_done_stays(sharded: DataConfig, tmp_path: Path, monkeypatch) -> None:
    with disk_of_a_mebibyte(tmp_path / "small") as disk:
        monkeypatch.setenv("ADVLORA_CACHE", str(disk))
        with pytest.raises(DataError, match=r"'disk' cannot write to .*: No space left on device; ADVLORA_CACHE names"):
            load_split(sharded, "train", Preprocessing(256))  # 0.19 MiB an image
        left = [file for file in disk.rglob("*") if file.is_file() and file.suffix != ".lock"]
        assert sorted(file.name for file in left) == ["000000000-1.json", "000000001-2.json", "images.npy"]
        assert len(load_split(sharded, "train", Preprocessing(256), 3)) == 3


def test_what_another_reader_decodes_is_left_to_it(sharded: DataConfig, monkeypatch) -> None:
    decoded: list[str] = []
    others: list[ImageTextSet] = []
    read = splits.read_shard
    other = threading.Thread(target=lambda: others.append(load_split(sharded, "train", Preprocessing(8))))

    def watched(shard, folder):
        decoded.append(shard.url)
        if len(decoded) == 1:  # the other one comes while the first shard is decoded
            other.start()
            other.join(0.5)
        return read(shard, folder)

    monkeypatch.setattr(splits, "read_shard", watched)
    ours = load_split(sharded, "train", Preprocessing(8))
    other.join(60)
    assert sorted(decoded) == ["s0.tar", "s1.tar", "s2.tar", "s3.tar"]
    assert torch.equal(ours.images, others[0].images)


def test_an_unknown_split_is_refused_as_in_memory(sharded: DataConfig) -> None:
    for config in (sharded, in_memory(sharded)):
        with pytest.raises(DataError, match="has no split 'tset'; did you mean 'test'"):
            load_split(config, "tset", Preprocessing(8))


def test_training_from_disk_gives_the_numbers_of_training_from_memory(run) -> None:
    in_memory, on_disk = (run({"data.store": place})[-1].metrics for place in ("memory", "disk"))
    same = [name for name in in_memory if not name.startswith("cost/")]
    assert {name: in_memory[name] for name in same} == {name: on_disk[name] for name in same}
