from __future__ import annotations

import pytest

from benchmarks import reading
from benchmarks.reading import Times

pytestmark = pytest.mark.unit


def test_both_readers_make_the_same_pixels(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVLORA_CACHE", str(tmp_path / "cache"))
    reading.written(tmp_path / "set", 10)
    ours, theirs = reading.ours(tmp_path / "set"), reading.theirs(tmp_path / "set", 0)
    assert sorted(map(bytes, ours.numpy())) == sorted(map(bytes, theirs.numpy()))


def test_the_table_holds_rates_and_the_ratios_of_rounds():
    times = {"advlora": [Times(1, 2), Times(2, 2), Times(4, 2)], "ImageFolder": [Times(2, 1)] * 3}
    assert reading.rows(times, 10) == [
        "| advlora | 5 | 5 |",
        "| ImageFolder | 5 | 10 |",
        "| ratio | 1.00 (0.50-2.00) | 0.50 (0.50-0.50) |",
    ]
