from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advlora.config import DataConfig
from advlora.data import check_data, load_manifest, load_split
from advlora.data.cache import cache_folder
from advlora.data.examination import Examined, examine, hashed
from advlora.data.layouts import forget_listings
from advlora.models import Preprocessing
from tests.advlora.data.class_folders import class_folders, of

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVLORA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for number in range(5):
        (tmp_path / f"{number}.bin").write_bytes(bytes([number] * 9))
    time.sleep(0.2)  # until their times can be told from those of later changes
    return [tmp_path / f"{number}.bin" for number in range(5)]


class Looks:
    """Notes which files are opened."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def __call__(self, file: Path) -> Examined:
        self.opened.append(file.name)
        return Examined(hashed(file), "bad" if file.read_bytes().startswith(b"bad") else "")


def examined(files: list[Path], looks: Looks, kind: str = "kind") -> list[Examined]:
    looks.opened.clear()
    return examine(files[0].parent, kind, files, looks, threads=3)


def test_a_file_is_opened_once_and_again_when_it_changes(files: list[Path]) -> None:
    looks = Looks()
    first = examined(files, looks)
    assert sorted(looks.opened) == [file.name for file in files]
    assert examined(files, looks) == first
    assert looks.opened == []
    assert examined(files, looks, "another kind") == first
    assert len(looks.opened) == 5
    times = files[2].stat()
    files[2].write_bytes(b"x" * 9)
    os.utime(files[2], ns=(times.st_atime_ns, times.st_mtime_ns))
    again = examined(files, looks)
    assert looks.opened == ["2.bin"]
    assert [a == b for a, b in zip(first, again, strict=True)] == [True, True, False, True, True]


def test_a_file_that_cannot_be_read_is_opened_every_time_and_a_missing_one_is_said(files: list[Path]) -> None:
    looks = Looks()
    files[1].write_bytes(b"bad")
    files[3].unlink()
    time.sleep(0.2)
    for wanted in (["0.bin", "1.bin", "2.bin", "4.bin"], ["1.bin"]):
        found = examined(files, looks)
        assert [each.problem for each in found] == ["", "bad", "", f"'{files[3]}' is missing", ""]
        assert sorted(looks.opened) == wanted


def test_a_file_that_has_just_been_written_is_not_yet_remembered(files: list[Path]) -> None:
    looks = Looks()
    files[0].write_bytes(b"y" * 9)
    examined(files, looks)
    examined(files, looks)
    assert looks.opened == ["0.bin"]


def test_a_memory_that_is_damaged_or_cannot_be_written_is_done_without(files: list[Path], monkeypatch) -> None:
    looks = Looks()
    first = examined(files, looks)
    (memory,) = cache_folder("examined").iterdir()
    memory.write_text("[")
    assert examined(files, looks) == first
    assert len(looks.opened) == 5
    monkeypatch.setenv("ADVLORA_CACHE", str(files[0]))
    assert examined(files, looks) == examined(files, looks) == first
    assert len(looks.opened) == 5


def test_a_folder_is_hashed_by_the_names_and_the_content_of_its_files(tmp_path: Path) -> None:
    def made(name: str, **content: bytes) -> str:
        (tmp_path / name).mkdir()
        for file, value in content.items():
            (tmp_path / name / file).write_bytes(value)
        return hashed(tmp_path / name)

    known = made("a", x=b"1", y=b"2")
    assert made("b", y=b"2", x=b"1", **{".DS_Store": b"3"}) == known
    assert len({known, made("c", x=b"2", y=b"1"), made("d", x=b"1", z=b"2")}) == 3


def bitmaps(folder: Path, value: int) -> DataConfig:
    """As many bytes in every file, whatever the value."""
    class_folders(folder)
    for file in folder.rglob("*.png"):
        file.unlink()
    for split in ("train", "val", "test"):
        for label, name in enumerate(("cat", "dog")):
            Image.fromarray(np.full((8, 8, 3), value + label, np.uint8)).save(folder / split / name / "0.bmp")
    return of(folder, store="disk")


def test_a_set_rebuilt_in_place_under_the_same_names_and_sizes_is_another_set(tmp_path: Path) -> None:
    found = []
    for value in (10, 200):
        config = bitmaps(tmp_path / "set", value)
        for file in (tmp_path / "set").rglob("*.bmp"):
            os.utime(file, (0, 0))
        forget_listings()
        assert check_data(config) == []
        pixels = load_split(config, "val", Preprocessing(8)).images
        assert sorted(pixels[:, 0, 0, 0].tolist()) == [value, value + 1]
        found.append((load_manifest(config).hash, sorted(file.stat().st_size for file in Path(config.name).rglob("*"))))
    assert found[0][1] == found[1][1]
    assert found[0][0] != found[1][0]


def test_a_check_that_reopens_opens_what_is_known(tmp_path: Path, monkeypatch) -> None:
    from advlora.data import records

    config, decoded = of(class_folders(tmp_path / "set")), []
    opened = records.opened
    monkeypatch.setattr(records, "opened", lambda content: decoded.append(1) or opened(content))
    time.sleep(0.2)
    for reopen, count in ((False, 12), (False, 0), (True, 12)):
        decoded.clear()
        forget_listings()
        assert check_data(config, reopen=reopen) == []
        assert len(decoded) == count
