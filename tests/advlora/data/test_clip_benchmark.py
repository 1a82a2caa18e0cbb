"""Zero-shot sets as CLIP_benchmark publishes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from advlora.config import DataConfig
from advlora.data import check_data, clip_benchmark, examination, load_manifest, load_split, summarise
from advlora.errors import DataError
from advlora.models import Preprocessing
from tests.advlora.data.shard_files import image_bytes, write_shard

pytestmark = pytest.mark.unit

SIZE = Preprocessing(8)


def sample(value: int, label: int) -> dict[str, bytes]:
    return {"webp": image_bytes(np.full((8, 8, 3), value, np.uint8), "WEBP"), "cls": str(label).encode()}


@pytest.fixture
def wds(tmp_path: Path) -> Path:
    """A test split alone, in eleven archives."""
    folder = tmp_path / "wds_animals"
    (folder / "test").mkdir(parents=True)
    (folder / "classnames.txt").write_text("cat\nhot dog\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\na sketch of a {c}.\n")
    (folder / "test" / "nshards.txt").write_text("11")
    for number in range(11):
        write_shard(folder / "test" / f"{number}.tar", [sample(10 * number, number % 2), sample(5, 0)])
    return folder


@pytest.mark.parametrize("store", ["memory", "disk"])
def test_a_test_split_alone_is_measured(wds: Path, store: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ADVLORA_CACHE", str(tmp_path / "cache"))
    config = DataConfig(name=str(wds), store=store)
    assert check_data(config) == []
    manifest = load_manifest(config)
    assert (manifest.name, manifest.classes) == ("wds_animals", ("cat", "hot dog"))
    assert manifest.captions(1) == ["a photo of a hot dog.", "a sketch of a hot dog."]
    assert {name: split.samples for name, split in manifest.splits.items()} == {"train": 0, "val": 0, "test": 22}
    data = load_split(config, "test", SIZE)
    assert sorted(data.labels[:4].tolist()) == [0, 0, 1, 1]  # as many of every class as there can be
    found = [round(float(value) / 5) * 5 for value in data.images[:, 0, 0, 0]]  # webp is lossy
    assert sorted(found) == sorted([*range(0, 110, 10), *[5] * 11])
    for value, label, caption in zip(found, data.labels.tolist(), data.captions, strict=True):
        assert label == (0 if value == 5 else value // 10 % 2)
        assert caption == f"a photo of a {manifest.classes[label]}."
    with pytest.raises(DataError, match="data set 'wds_animals' has no samples in split 'train'"):
        load_split(config, "train", SIZE)


def test_archives_are_read_once_and_known_by_size_and_time(wds: Path, monkeypatch) -> None:
    files = sorted((wds / "test").glob("*.tar"))
    monkeypatch.setattr(examination, "CLOCK", -1)  # the files are old enough to be remembered
    before = load_manifest(DataConfig(name=str(wds)))
    opened: list[Path] = []
    monkeypatch.setattr(clip_benchmark, "hashed", lambda file: opened.append(file) or examination.hashed(file))
    assert load_manifest(DataConfig(name=str(wds))) == before
    assert opened == []
    write_shard(files[0], [sample(7, 1)])
    assert load_manifest(DataConfig(name=str(wds))).hash != before.hash
    assert opened == files[:1]


def test_a_published_list_may_hold_a_name_twice(wds: Path) -> None:
    (wds / "classnames.txt").write_text("cat\nhot dog\ncat\n")
    config = DataConfig(name=str(wds))
    assert check_data(config) == []
    assert load_manifest(config).classes == ("cat", "hot dog", "cat")
    found = summarise(config)
    assert found.equal_names == ("cat",)
    assert found.splits["test"].counts == {"cat (0)": 17, "hot dog": 5, "cat (2)": 0}


def test_what_is_wrong_with_such_a_folder_is_said(wds: Path) -> None:
    before = load_manifest(DataConfig(name=str(wds))).hash
    write_shard(wds / "test" / "10.tar", [sample(7, 1)])
    assert load_manifest(DataConfig(name=str(wds))).hash != before
    (wds / "test" / "3.tar").write_bytes(b"no archive")
    (problem,) = check_data(DataConfig(name=str(wds)))
    assert f"shard '{wds / 'test' / '3.tar'}' cannot be read" in problem
    (wds / "zeroshot_classification_templates.txt").unlink()
    (problem,) = check_data(DataConfig(name=str(wds)))
    assert "zeroshot_classification_templates.txt cannot be read" in problem
    (wds / "classnames.txt").write_text("cat\n")
    (wds / "zeroshot_classification_templates.txt").write_text("a photo\n")
    (wds / "test" / "3.tar").unlink()
    problems = "\n".join(check_data(DataConfig(name=str(wds))))
    assert "'a photo' must hold {} exactly once" in problems
