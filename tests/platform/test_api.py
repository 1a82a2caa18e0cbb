"""Studies from Python."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import advlora_platform
from advlora.errors import ConfigError
from tests.builders import TEST_ROBUST, ablation
from tests.platform.folders import run_made_up

pytestmark = pytest.mark.unit
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def finished(tmp_path):
    return run_made_up(ablation(base={"data": {"train_samples": 64}}), tmp_path / "parts", {"wide": 0.5})


def test_a_study_is_a_frame_with_a_row_per_trial(finished):
    frame = advlora_platform.open_study(finished.path).to_frame()
    assert list(frame.columns[:4]) == ["arm", "seed", "status", "trial"]
    assert list(zip(frame["arm"], frame["seed"], strict=True)) == [
        ("plain", 0),
        ("plain", 1),
        ("wide", 0),
        ("wide", 1),
    ]
    assert frame.loc[frame["arm"] == "wide", "adapter.rank"].tolist() == [16, 16]
    assert frame[TEST_ROBUST].tolist() == pytest.approx([0.55, 0.6, 0.65, 0.7])


def test_tables_and_summary_are_those_of_the_report(finished):
    study = advlora_platform.open_study(str(finished.path))
    assert "arms" in study.tables()
    assert study.summary.counts["done"] == 4


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"is no study folder \(it has no study.yaml\)"):
        advlora_platform.open_study(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("quikstart",), "no shipped ablation is called 'quikstart'"), (("quickstart", ["adapter.rnak=1"]), "rnak")],
)
def test_a_wrong_study_is_refused_before_anything_starts(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        advlora_platform.run(*arguments)
    assert said in "; ".join(caught.value.problems)
    assert not (tmp_path / "runs").exists()


def test_every_public_call_is_documented():
    import advlora

    text = (DOCS / "api.md").read_text()
    for name in (*advlora.__all__, *advlora_platform.__all__, ".to_frame", ".tables"):
        assert re.search(rf"\| `{re.escape(name)}\(", text), name
