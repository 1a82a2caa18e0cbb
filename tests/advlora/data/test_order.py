from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from advlora.config import DataConfig
from advlora.data import load_manifest, load_split
from advlora.data.layouts import forget_listings
from advlora.data.order import drawn
from advlora.data.splits import split_labels
from advlora.models import Preprocessing
from tests.advlora.data.class_folders import class_folders, image, of
from tests.advlora.data.shard_files import grey, write_shard

pytestmark = pytest.mark.unit
SORTED = [label for label in range(10) for _ in range(60)]
"""As folders are listed: class by class."""


def names(labels: list[int]) -> list[str]:
    return [f"{label}/{position}" for position, label in enumerate(labels)]


@pytest.mark.parametrize("limit", [10, 37, 100, 599])
def test_any_number_of_first_samples_shows_all_classes_alike(limit: int) -> None:
    order = drawn(SORTED, names(SORTED))
    counts = Counter(SORTED[position] for position in order[:limit])
    assert len(counts) == 10
    assert max(counts.values()) - min(counts.values()) <= 1
    assert sorted(order) == list(range(len(SORTED)))


def test_a_class_that_is_used_up_leaves_its_turn_to_the_others() -> None:
    labels = [0] * 2 + [1] * 6
    order = [labels[position] for position in drawn(labels, names(labels))]
    assert sorted(order[:4]) == [0, 0, 1, 1]
    assert order[4:] == [1] * 4


def test_the_draw_is_fixed_looks_random_and_does_not_depend_on_how_the_samples_are_listed() -> None:
    labels, each = SORTED, names(SORTED)
    order = [each[position] for position in drawn(labels, each)]
    assert order == [each[::-1][position] for position in drawn(labels[::-1], each[::-1])]
    firsts = [int(name.split("/")[0]) for name in order[:10]]
    assert firsts != sorted(firsts)
    within = [int(name.split("/")[1]) for name in order if name.startswith("0/")]
    assert within != sorted(within)
    fewer = [name for name in order if name != order[0]]
    kept = [(label, name) for label, name in zip(labels, each, strict=True) if name != order[0]]
    again = drawn([label for label, _ in kept], [name for _, name in kept])
    assert [kept[position][1] for position in again if kept[position][0] == 0] == [n for n in fewer if n[0] == "0"]


@pytest.mark.parametrize("store", ["memory", "disk"])
def test_the_first_images_of_class_folders_show_all_classes(tmp_path: Path, store: str) -> None:
    config = of(class_folders(tmp_path, "abc", 4), store=store)
    first = load_split(config, "test", Preprocessing(6), 6)
    assert Counter(first.labels.tolist()) == {0: 2, 1: 2, 2: 2}
    whole = load_split(config, "test", Preprocessing(6))
    assert whole.labels[:6].tolist() == first.labels.tolist()
    assert (whole.images[:6] == first.images).all()


def test_the_order_is_that_of_the_names_whatever_the_folder_of_the_set(tmp_path: Path) -> None:
    found = []
    for place in ("here", "there"):
        config = of(class_folders(tmp_path / place, "abc", 4))
        found.append((load_manifest(config).hash, load_split(config, "val", Preprocessing(6)).images.sum((1, 2, 3))))
    assert found[0][0] == found[1][0]
    assert (found[0][1] == found[1][1]).all()


@pytest.fixture
def by_class(folder) -> DataConfig:
    """Twelve samples in three shards, class by class, as others write them."""
    samples = [{"png": grey(20 * i), "cls": str(i // 6).encode()} for i in range(12)]
    shards = [write_shard(folder.path / f"c{k}.tar", samples[4 * k : 4 * k + 4]) for k in range(3)]
    folder.manifest["splits"]["train"] = {"samples": 12, "shards": shards}
    del folder.manifest["shuffled"]
    folder.save()
    return DataConfig(name=str(folder.path))


@pytest.mark.parametrize("store", ["memory", "disk"])
@pytest.mark.parametrize("limit", [1, 4, 7, None])
def test_the_first_samples_of_shards_are_drawn_class_by_class(by_class, store, limit) -> None:
    data = load_split(by_class.model_copy(update={"store": store}), "train", Preprocessing(8), limit)
    wanted = limit or 12
    counts = Counter(data.labels.tolist())
    assert counts.total() == wanted
    assert abs(counts[0] - counts[1]) <= 1
    values = data.images[:, 0, 0, 0] // 20  # the number of the sample
    assert len(set(values.tolist())) == wanted
    assert (values // 6).tolist() == data.labels.tolist() == split_labels(by_class, "train", limit)
    whole = load_split(by_class, "train", Preprocessing(8))
    assert (whole.images[:wanted] == data.images).all()


def test_shards_that_say_they_are_shuffled_keep_their_order_and_their_hash(by_class, folder) -> None:
    drawn_hash = load_manifest(by_class).hash
    folder.manifest["shuffled"] = True
    folder.save()
    assert load_split(by_class, "train", Preprocessing(8)).labels.tolist() == [0] * 6 + [1] * 6
    assert split_labels(by_class, "train", 7) == [0] * 6 + [1]
    assert load_manifest(by_class).hash != drawn_hash


def test_the_embedded_sets_are_shuffled_and_what_they_were() -> None:
    hashes = {name: load_manifest(DataConfig(name=name)).hash for name in ("fashion-mnist", "emoji")}
    assert hashes == {"fashion-mnist": "c63af0c1d3946b70", "emoji": "d2293ec3d03da421"}
    assert set(split_labels(DataConfig(), "test", 100)) == set(range(10))


def test_shards_for_retrieval_are_drawn_as_a_whole(folder) -> None:
    shard = write_shard(folder.path / "r.tar", [{"png": grey(i), "txt": f"text {i}".encode()} for i in range(20)])
    splits = {name: {"samples": 20, "shards": [shard]} for name in ("train", "val", "test")}
    folder.manifest = {"name": "captions", "task": "retrieval", "splits": splits}
    folder.save()
    found = load_split(DataConfig(name=str(folder.path)), "test", Preprocessing(8), 10)
    numbers = [int(caption.split()[1]) for caption in found.captions]
    assert found.images[:, 0, 0, 0].tolist() == numbers
    assert numbers != list(range(10))
    assert len(set(numbers)) == 10


def test_captioned_images_are_drawn_as_a_whole(tmp_path: Path) -> None:
    entries = []
    for number in range(12):
        image(tmp_path / f"{number:02d}.png", number)
        split = "train" if number < 10 else ("val", "test")[number - 10]
        entries.append({"filename": f"{number:02d}.png", "split": split, "sentences": [{"raw": f"text {number}"}]})
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": entries}))
    config = DataConfig(name=str(tmp_path))
    found = load_split(config, "train", Preprocessing(6)).captions
    assert sorted(found) == sorted(f"text {number}" for number in range(10))
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": entries[::-1]}))
    forget_listings()
    assert load_split(config, "train", Preprocessing(6)).captions == found
