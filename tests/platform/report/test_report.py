"""What people read: findings, terminal, Markdown, page and figures of studies with made-up results."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.text import Text

from advlora.metrics import Metric
from advlora_platform.analysis import AblationSummary
from advlora_platform.report import Report, ablation_report, sweep_report, to_terminal, write_report
from advlora_platform.report.canvas import DARK, LIGHT
from advlora_platform.report.document import Table
from advlora_platform.report.findings import tone_of
from advlora_platform.report.markdown import to_markdown
from advlora_platform.report.page import to_html
from advlora_platform.report.terminal import terminal_table
from advlora_platform.study.folder import StudyFolder
from tests.platform.stories import ROBUST, VAL_ROBUST, ablation, accuracies, sweep, tell, tell_sweep, trials

pytestmark = pytest.mark.unit

CURVE = {"protocol": {"curve": ["4/255", "16/255"]}}


def helped(arm, seed):
    """Clustering helps; adaptive is lost in noise."""
    clustering = arm in {"clustering", "AdvLoRA"}
    noise = 0.02 * ((seed * 7) % 3 - 1) * (arm == "adaptive")
    robust = 0.5 + 0.004 * seed + 0.04 * clustering + 0.002 * clustering * seed + noise
    curve = {str(Metric.robust("test", 4 / 255)): robust + 0.1, str(Metric.robust("test", 16 / 255)): robust - 0.2}
    return accuracies(robust, 0.8 + 0.001 * seed, **curve)


def holed(arm, seed):
    """One arm without any result, one that diverged, one that runs."""
    if arm == "full":
        return None
    return {("LoRA", 1): "diverged", ("adaptive", 2): "running"}.get((arm, seed), helped(arm, seed))


def hunt(number=10):
    study = sweep(search={"trials": number + 2, "objectives": ["robust", "clean"]})
    found = {rank: accuracies(0.3 + 0.01 * rank, 0.9 - 0.01 * rank) for rank in range(2, 2 + number)}
    records = trials(study, {**found, 30: "diverged", 31: "running"})
    return tell_sweep(study, [replace(records[0], status="stopped"), *records[1:]])


def plain(summary, width=110):
    return Text.from_markup(to_terminal(document(summary), width)).plain


def report(summary) -> Report:
    return ablation_report(summary) if isinstance(summary, AblationSummary) else sweep_report(summary)


def document(summary):
    return report(summary).document


def sentences(summary):
    return [finding.text for finding in document(summary).findings]


class Page(HTMLParser):
    """Collects the text and the elements of a page."""

    def __init__(self, content):
        super().__init__()
        self.text, self.elements = "", []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_findings_say_what_helps_and_what_does_not():
    said = sentences(tell(ablation(), helped))
    assert said[0].startswith("clustering: robust accuracy +4.")
    assert "over 3 seeds, better;" in said[0]
    assert re.search(r"adaptive: robust accuracy .* not resolved: about \d+ more seeds for 80 % power", said[1])
    assert any(text.startswith("AdvLoRA against LoRA: robust accuracy +") for text in said)
    assert "Selection used val (val/robust_r1:8_255); the table shows test, which selected nothing." in said


def test_a_study_without_any_effect_says_so_first():
    said = sentences(tell(ablation(), lambda arm, seed: accuracies(0.5 + 0.01 * seed)))
    assert said[0] == "No factor is shown to make robust accuracy better or worse (clustering, adaptive)."


def test_findings_name_what_is_missing_and_what_diverged():
    said = sentences(tell(ablation(), holed))
    assert "Incomplete: of 18 planned trials, 3 missing, 1 running, 1 failed." in said
    assert "1 trial diverged; that is a result, and is not tried again." in said


def test_a_sweep_says_that_its_best_value_is_optimistic():
    said = sentences(hunt())
    assert said[0].startswith("Best: trial 10 has the highest final val/robust_r1:8_255 of 9 finished trials: 42.0 %")
    assert "the best value is optimistic" in said[1]
    assert sentences(tell_sweep(sweep(), []))[0] == "No best configuration yet: no trial is finished."


@pytest.mark.parametrize(
    ("story", "seeds"),
    [(helped, [0]), (holed, [0, 1, 2]), (lambda arm, seed: None, [0, 1]), (lambda arm, seed: "diverged", [0, 1])],
    ids=["one seed", "holes", "nothing", "all diverged"],
)
def test_every_format_can_show_every_state(story, seeds, tmp_path):
    summary = tell(ablation(seeds=seeds, **CURVE), story)
    assert max(len(line) for line in plain(summary).splitlines()) <= 110
    files = write_report(report(summary), StudyFolder(tmp_path))
    assert all(path.stat().st_size for path in files)


@pytest.mark.parametrize("summary", [hunt(), hunt(3), tell_sweep(sweep(), [])], ids=["full", "few", "empty"])
def test_every_format_can_show_every_state_of_a_sweep(summary, tmp_path):
    assert max(len(line) for line in plain(summary).splitlines()) <= 110
    assert all(path.stat().st_size for path in write_report(report(summary), StudyFolder(tmp_path)))


@pytest.mark.parametrize("width", [72, 80, 110, 200])
@pytest.mark.parametrize("summary", [tell(ablation(**CURVE), holed), hunt(14)], ids=["ablation", "sweep"])
def test_nothing_is_wrapped_by_the_terminal_and_no_number_is_cut(summary, width):
    text = plain(summary, width)
    assert max(map(len, text.splitlines())) <= width
    shown = [section.table.for_terminal() for section in document(summary).parts if section.brief]
    words = [word for table in shown for row in table.rows for cell in row[1:] for word in cell.split()]
    assert Counter(words) - Counter(text.split()) == Counter()


def test_a_table_that_does_not_fit_goes_on_below_and_names_its_rows_again():
    table = Table(("arm", "a", "b", "verdict"), "lrrl", (("LoRA", "1" * 20, "2" * 20, "no effect beyond 3 points"),))
    assert terminal_table(table, 80).count("LoRA") == 1
    assert Text.from_markup(terminal_table(table, 50)).plain.splitlines() == [
        f"arm   {'a':>20}  {'b':>20}",
        f"LoRA  {'1' * 20}  {'2' * 20}",
        "",
        "arm   verdict",
        "LoRA  no effect beyond 3 points",
    ]
    assert terminal_table(table, 71).splitlines()[-1].strip() == "points"


def test_a_column_or_row_may_be_for_full_reports_or_for_a_terminal_only():
    rows = (("LoRA", "long", "s", "1"), ("full", "longer", "t", "2"))
    table = Table(("arm", "wide", "narrow", "n"), "llrr", rows, ("good", "bad"), "afta", (1,))
    assert table.full() == Table(
        ("arm", "wide", "n"), "llr", (("LoRA", "long", "1"), ("full", "longer", "2")), table.tones
    )
    assert table.for_terminal() == Table(("arm", "narrow", "n"), "lrr", (("full", "t", "2"),), ("bad",))
    assert terminal_table(table).endswith("... and 1 more in the report")


def test_the_terminal_shows_table_effects_best_and_holes():
    text = plain(tell(ablation(), holed))
    assert text.startswith("story (ablation): 13 of 18 done, 1 running, 1 failed, 3 missing")
    row = next(line for line in text.splitlines() if line.startswith("AdvLoRA"))
    assert row.split()[:4] == ["AdvLoRA", "54.6", "±", "1.5"]
    assert row.endswith("3.00     20.0   42T   3/3")
    assert next(line for line in text.splitlines() if line.startswith("full")).endswith("0/3")
    assert re.search(r"clustering  robust +\+4\.5 +3/3  not resolved: no verdict below 3 complete seeds", text)
    assert re.search(r"adaptive    robust .* 3/3  equivalent within 1 point \(without adaptive, LoRA\)", text)
    assert "LoRA: seed 1 failed (diverged)." in text
    assert "full: seed 0 missing, seed 1 missing, seed 2 missing" in text
    assert "Protocol: PGD-10 (cross-entropy, L-inf 8/255), 400 val / 1000 test images" in text
    assert "Best: 'clustering' has the highest mean" in text


def test_names_and_messages_are_not_read_as_markup():
    study = ablation(arms={"[bold]odd[/] | <b>": {"adapter.rank": 4}})
    summary = tell(study, lambda arm, seed: "error" if seed == 1 else helped(arm, seed))
    assert "[bold]odd[/] | <b>" in plain(summary)
    assert "it error [here]" in plain(summary)
    page_of = document(summary)
    assert r"| \[bold\]odd\[/\] \| \<b\> |" in to_markdown(page_of, {})
    page = Page(to_html(page_of, {}, {}))
    assert "[bold]odd[/] | <b>" in page.text
    assert "b" not in {tag for tag, _ in page.elements}


def test_a_long_name_is_cut_in_the_terminal_only():
    name = "an arm whose name is much longer than the first column of the table"
    summary = tell(ablation(arms={name: {"adapter.rank": 4}}), helped)
    for width, kept in ((110, 30), (80, 21)):
        assert f"\n{name[:kept]}…" in plain(summary, width)
    assert name in to_markdown(document(summary), {})


def test_a_sweep_in_the_terminal_has_top_trials_front_and_importance():
    text = plain(hunt(14))
    assert text.startswith("hunt (sweep): 13 of 16 done, 1 stopped, 1 running, 1 failed")
    lines = text.splitlines()
    assert lines[4].split()[:3] == ["14", "46.0", "76.0"]
    assert lines[4].endswith("rank=15, init=gaussian")
    assert "... and 6 more in the report" in text
    assert "Pareto front" in text
    assert "\nImportance\n" in text


def test_an_unfinished_trial_never_stands_above_a_finished_one():
    summary = hunt()
    table = next(section.table for section in document(summary).parts if section.title == "Trials")
    statuses = [row[table.header.index("status")] for row in table.rows]
    assert statuses == ["done"] * 9 + ["stopped early", "failed (diverged)", "running"]
    assert summary.sweep.trials[0].metrics[VAL_ROBUST] == pytest.approx(0.33)


def test_the_files_of_a_report(tmp_path):
    folder = StudyFolder(tmp_path)
    folder.figures.mkdir()
    (folder.figures / "history.png").write_bytes(b"of an older run")
    summary = tell(ablation(**CURVE), helped)
    files = write_report(report(summary), folder)
    figures = [folder.figures / f"{name}.png" for name in ("arms", "effects", "curve")]
    assert files == [folder.summary, folder.report_markdown, folder.report_html, *figures]
    assert sorted(folder.figures.iterdir()) == sorted(figures)
    assert json.loads(folder.summary.read_text()) == summary.to_json()
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in figures)
    linked = re.findall(r"!\[.*\]\((.*)\)", folder.report_markdown.read_text())
    assert [tmp_path / link for link in linked] == figures


def test_the_page_is_self_contained_and_shows_every_run(tmp_path):
    folder = StudyFolder(tmp_path)
    summary = tell(ablation(), helped)
    write_report(report(summary), folder)
    content = folder.report_html.read_text()
    page = Page(content)
    sources = [attrs.get("src") or attrs.get("srcset") for tag, attrs in page.elements if tag in {"img", "source"}]
    assert len(sources) == 4
    for source in sources:
        assert base64.b64decode(source.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert not [tag for tag, _ in page.elements if tag in {"script", "link", "iframe"}]
    assert "http" not in content
    for arm in summary.arms:
        for trial in arm.trials:
            assert trial.mlflow_run_id in page.text
            assert f"`{trial.mlflow_run_id}`" in folder.report_markdown.read_text()
    assert "prefers-color-scheme: dark" in content


def test_the_report_names_protocol_and_provenance():
    text = to_markdown(document(tell(ablation(), helped)), {})
    assert "Protocol: PGD-10 (cross-entropy, L-inf 8/255), 400 val / 1000 test images." in text
    assert "- commit: c0ffee with uncommitted changes" in text
    assert "- data hash: da7a" in text


def test_the_curve_has_every_strength_and_only_exists_where_it_was_asked_for():
    summary = tell(ablation(**CURVE), helped)
    table = next(s.table for s in document(summary).parts if s.title == "Epsilon of the attack")
    assert table.header == ("arm", "0 (clean)", "4/255", "8/255", "16/255")
    assert table.rows[0] == ("LoRA", "80.1", "60.4", "50.4", "30.4")
    titles = [section.title for section in document(tell(ablation(), helped)).parts]
    assert "Epsilon of the attack" not in titles


BACKDOOR = "test/attack_success_rate"


def test_reported_metrics_are_columns_and_comparisons_in_which_less_of_a_backdoor_is_better():
    def cleaned(arm, seed):
        return accuracies(0.5) | {BACKDOOR: {"LoRA": 0.9, "full": 0.99}.get(arm, 0.2) + 0.01 * seed * (arm == "LoRA")}

    summary = tell(ablation(report=[BACKDOOR, ROBUST]), cleaned)
    assert summary.metrics.further == (BACKDOOR,)  # robust accuracy is shown anyway
    tables = {section.title: section.table for section in document(summary).parts}
    column = tables["Arms"].header.index("test attack success rate (%)")
    assert [row[column] for row in tables["Arms"].rows][:2] == ["91.0 (88.5 to 93.5)", "20.0 (20.0 to 20.0)"]
    compared = {c.name: c for c in summary.comparisons if c.metric == BACKDOOR}
    assert (compared["AdvLoRA"].outcome, compared["AdvLoRA"].verdict) == ("better", "better")
    assert compared["AdvLoRA"].estimate.high < 0
    assert (compared["full"].verdict, tone_of(compared["full"])) == ("worse", "bad")
    assert "test attack success rate" in {row[1] for row in tables["Every arm against LoRA"].rows}
    assert "91.0 ± 2.5" in plain(summary)
    assert "AdvLoRA     attack success rate" in plain(summary)
    assert "success" not in plain(tell(ablation(), helped))


def test_tuned_values_and_failures_have_their_tables():
    tuning = {"parameters": {"optimiser.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2}}, "trials": 2}
    summary = tell(ablation(tuning=tuning), holed)
    tables = {section.title: section.table for section in document(summary).parts}
    assert tables["Tuned inside each arm"].header == ("arm", "optimiser.learning_rate", "tried", "failed")
    assert {row[2] for row in tables["Tuned inside each arm"].rows} == {"2/2"}
    failures = tables["Failures"].full()
    assert failures.header[-2:] == ("failure", "message")
    assert [(*row[:3], *row[-2:]) for row in failures.rows] == [
        ("LoRA", "1", "ablate", "diverged", "it diverged [here]")
    ]
    assert [row[2] for row in tables["Every trial"].rows].count("missing") == 3


def test_figures_follow_the_theme():
    summary = tell(ablation(), helped)
    light, dark = report(summary).figures(LIGHT), report(summary).figures(DARK)
    assert light.keys() == dark.keys() == {"arms", "effects"}
    assert all(light[name] != dark[name] for name in light)
    assert report(hunt()).figures(LIGHT).keys() == {"history", "pareto", "importance"}
    assert report(tell(ablation(), lambda arm, seed: None)).figures(LIGHT) == {}


def test_equal_arms_are_shown_as_equal():
    study = ablation(factors={}, arms={"one": {"adapter.rank": 4}, "other": {"adapter.rank": 4}})
    summary = tell(study, lambda arm, seed: accuracies(0.5))
    assert summary.arms[0].trials[0].trial_id == summary.arms[1].trials[0].trial_id
    assert summary.arms[0].estimates[ROBUST].sd == 0.0
    assert "equivalent within 1 point" in plain(summary)


def transferred(arm, seed):
    """`full` is better on one further set and worse on the other."""
    shift = 0.1 * (arm == "full")
    numbers = {"": 0.4, "mine/": 0.3 - shift, "cars/": 0.5 + shift}
    found = {f"test/transfer/{place}robust_r1:8_255": value + 0.01 * seed for place, value in numbers.items()}
    return accuracies(0.5, **found, **{name.replace("robust_r1:8_255", "clean_r1"): 0.9 for name in found})


def test_further_sets_have_tables_of_their_own_and_their_mean_is_compared():
    summary = tell(ablation(transfer={"sets": ["mine", "cars"]}), transferred)
    means = ("test/transfer/robust_r1:8_255", "test/transfer/clean_r1")
    assert summary.metrics.further == means
    parts = {part.title: part.table for part in document(summary).parts}
    table = parts["Transfer: robust accuracy"]
    assert table.header == ("arm", "mean of the sets", "mine", "cars")
    by_arm = {row[0]: row[1:] for row in table.rows}
    assert by_arm["LoRA"] == ("41.0 (38.5 to 43.5)", "31.0", "51.0")
    assert by_arm["full"] == ("41.0 (38.5 to 43.5)", "21.0", "61.0")
    assert parts["Transfer: clean accuracy"].rows[0][1:] == ("90.0 (90.0 to 90.0)", "90.0", "90.0")
    assert {answer.metric for answer in summary.comparisons} == {ROBUST, "test/clean_r1", *means}
    assert "transfer robust 8/255 (%)" in parts["Arms"].header
    assert not [part.title for part in document(tell(ablation(), transferred)).parts if "Transfer" in part.title]
