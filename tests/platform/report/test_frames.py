"""Tables for papers: the numbers of the summary, exactly, and LaTeX that compiles."""

from __future__ import annotations

import csv
import math
import re

import pytest

from advlora_platform.report import ablation_report, frames, sweep_report
from advlora_platform.report.document import Table
from advlora_platform.report.frames import to_frame, to_latex, write_tables
from tests.platform.stories import ROBUST, ablation, accuracies, sweep, tell, tell_sweep, trials

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def summary():
    return tell(
        ablation(), lambda arm, seed: None if arm == "full" else accuracies(0.5 + 0.0123 * seed + len(arm) / 99)
    )


def test_a_frame_holds_the_exact_numbers_of_the_summary(summary):
    arms = frames(ablation_report(summary).document)["arms"].set_index("arm")
    found = next(arm for arm in summary.arms if arm.name == "AdvLoRA").estimates[ROBUST]
    heading = "test robust 8/255 (%)"
    row = arms.loc["AdvLoRA", [heading, f"{heading} low", f"{heading} high"]]
    assert row.tolist() == [100 * found.mean, 100 * found.low, 100 * found.high]
    assert arms.loc["AdvLoRA", "FLOP"] == 4.2e13
    assert math.isnan(arms.loc["full", heading])


def test_every_table_of_a_report_is_there(summary):
    tables = frames(ablation_report(summary).document)
    assert {"arms", "effects-of-the-factors", "interactions", "every-arm-against-lora", "every-trial"} <= set(tables)
    assert tables["every-trial"]["seed"].tolist() == [0, 1, 2] * 6
    hunted = tell_sweep(sweep(), trials(sweep(), {rank: accuracies(0.1 * rank) for rank in (2, 3, 4)}))
    found = frames(sweep_report(hunted).document)["trials"]
    assert found["trial"].tolist() == [3, 2, 1]
    assert found["id"].map(len).tolist() == [8, 8, 8]


def test_comparisons_have_numbers_for_p_and_interval(summary):
    table = frames(ablation_report(summary).document)["every-arm-against-lora"]
    answers = summary.comparisons
    assert table["p"].tolist()[0] == answers[0].p
    assert table["difference (points) low"].tolist()[0] == 100 * answers[0].estimate.low
    assert table["verdict"].tolist() == [answer.verdict for answer in answers]


def test_codes_stay_text_even_if_they_look_like_numbers():
    frame = to_frame(Table(("trial", "seed"), "cr", (("01234567", "3"), ("12345678", "-1"))))
    assert frame["trial"].tolist() == ["01234567", "12345678"]
    assert frame["seed"].tolist() == [3, -1]


def test_latex_is_escaped_and_keeps_what_the_report_shows():
    text = to_latex(Table(("arm", "x (%)"), "lr", (("a_b & {c}", "57.3 ± 1.2"), ("d", "–"))), "50% of a_b", "tab:x")
    assert r"a\_b \& \{c\} & 57.3 $\pm$ 1.2 \\" in text
    assert r"\caption{50\% of a\_b}" in text
    assert r"d & -- \\" in text
    assert r"\toprule" in text
    assert text.isascii()
    assert not re.search(r"(?<!\\)[%&_](?![^&]*\\\\)", text.replace("&", ""))


def test_files_follow_the_report(summary, tmp_path):
    document = ablation_report(summary).document
    (tmp_path / "gone.csv").write_text("x")
    write_tables(document, tmp_path)
    names = {path.stem for path in tmp_path.glob("*.csv")}
    assert names == {path.stem for path in tmp_path.glob("*.tex")} == set(frames(document))
    rows = list(csv.DictReader((tmp_path / "arms.csv").open()))
    assert [row["arm"] for row in rows] == [arm.name for arm in summary.arms]
    assert float(rows[0]["test clean (%)"]) == pytest.approx(80.0)
