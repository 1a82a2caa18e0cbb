from __future__ import annotations

from dataclasses import replace

import pytest

from advlora_platform.export.best import write_best
from advlora_platform.report import sweep_report, to_terminal, write_report
from advlora_platform.study.folder import StudyFolder
from tests.platform.stories import ROBUST, VAL_ROBUST, accuracies, confirmations, sweep, tell_sweep, trials

pytestmark = pytest.mark.unit

CONFIRM = {
    "confirm": {"protocol": {"attacks": [{"kind": "pgd", "steps": 50}]}, "top": 3, "seeds": [7, 8]},
    "search": {"trials": 12, "objectives": ["robust"]},
}
SEARCHED = {2: accuracies(0.30), 4: accuracies(0.40), 8: accuracies(0.50), 16: accuracies(0.60)}


def told(story, **changes):
    """A sweep in which robustness rises with the rank, and what its confirmation says."""
    study = sweep(**{**CONFIRM, **changes})
    searched = trials(study, SEARCHED)
    return study, tell_sweep(study, [*searched, *confirmations(study, searched, story)])


def fooled(rank, seed):
    """The search's leader is the one that the strong attack breaks."""
    return accuracies({16: 0.10, 8: 0.45, 4: 0.35}[rank] + 0.01 * (seed - 7))


def test_the_winner_is_the_one_that_was_confirmed_not_the_one_that_was_searched():
    _, summary = told(fooled)
    assert summary.best.config["adapter"]["rank"] == 8
    assert summary.best.config["seed"] == 7
    assert summary.best.seeds == (7, 8)
    assert summary.best.metrics[ROBUST] == 0.45


def test_the_search_is_compared_with_the_confirmation():
    _, summary = told(fooled)
    found = summary.confirmation
    assert found.rank_correlation == pytest.approx(-0.5)
    # The leader was searched at 0.61 on val; confirmed are 0.11 and 0.12.
    assert found.optimism.mean == pytest.approx(0.495)
    assert list(found.searched.values()) == pytest.approx([0.61, 0.51, 0.41])
    assert found.protocol.startswith("PGD-50")


def test_without_a_confirmed_finalist_there_is_nothing_to_export():
    _, summary = told(lambda rank, seed: None)
    assert summary.best is None
    assert [trial.status for arm in summary.arms for trial in arm.trials] == ["missing"] * 6
    assert "No best configuration yet: no finalist is confirmed." in terminal_report_text(summary)


def test_a_finalist_that_is_not_reliable_cannot_win():
    study = sweep(**CONFIRM)
    searched = trials(study, SEARCHED)
    found = confirmations(study, searched, lambda rank, seed: accuracies({16: 0.9, 8: 0.4, 4: 0.3}[rank]))
    doubted = [replace(r, unreliable="monotone: no") if r.values["adapter.rank"] == 16 else r for r in found]
    summary = tell_sweep(study, [*searched, *doubted])
    assert summary.best.config["adapter"]["rank"] == 8
    assert len(summary.confirmation.unreliable) == 1
    assert "cannot win" in terminal_report_text(summary)


def test_a_failed_finalist_is_shown_and_cannot_win():
    _, summary = told(lambda rank, seed: "diverged" if rank == 16 else fooled(rank, seed))
    assert summary.best.config["adapter"]["rank"] == 8
    assert summary.confirmation.optimism is None
    assert [failure.kind for failure in summary.failures] == ["diverged", "diverged"]


def test_the_pareto_set_is_confirmed_beside_the_top():
    study = sweep(
        **{**CONFIRM, "search": {"objectives": ["robust", "clean"]}, "confirm": {**CONFIRM["confirm"], "top": 1}}
    )
    searched = trials(study, {2: accuracies(0.3, 0.9), 4: accuracies(0.4, 0.8), 8: accuracies(0.35, 0.7)})
    summary = tell_sweep(study, searched)
    assert [round(value, 2) for value in summary.confirmation.searched.values()] == [0.41, 0.31]


def test_a_trial_that_was_stopped_early_is_no_finalist():
    study = sweep(**CONFIRM)
    searched = trials(study, SEARCHED)
    searched[3] = replace(searched[3], status="stopped")
    assert max(tell_sweep(study, searched).confirmation.searched.values()) == pytest.approx(0.51)


def test_a_trial_that_is_not_reliable_is_no_finalist():
    study = sweep(**CONFIRM)
    searched = trials(study, SEARCHED)
    searched[3] = replace(searched[3], unreliable="monotone: no")
    assert max(tell_sweep(study, searched).confirmation.searched.values()) == pytest.approx(0.51)


def test_the_exported_file_names_the_strong_examination(tmp_path):
    study, summary = told(fooled)
    folder = StudyFolder(tmp_path)
    write_best(study, summary, folder)
    assert "steps: 50" in folder.best.read_text()


def test_the_report_shows_both_values_and_draws_them(tmp_path):
    _, summary = told(fooled)
    files = write_report(sweep_report(summary), StudyFolder(tmp_path))
    assert "confirmation.png" in {file.name for file in files}
    page = StudyFolder(tmp_path).report_markdown.read_text()
    assert "## Confirmation" in page
    assert "Optimism: the search promised +49.5 points" in page
    assert "-0.50 (Spearman)" in page
    assert VAL_ROBUST in page


def test_the_seed_of_the_search_cannot_confirm():
    from advlora.errors import ConfigError

    with pytest.raises(ConfigError, match="it was selected on"):
        sweep(**{**CONFIRM, "seed": 7})


def terminal_report_text(summary) -> str:
    from io import StringIO

    from rich.console import Console

    text = StringIO()
    Console(file=text, width=200).print(to_terminal(sweep_report(summary).document))
    return " ".join(text.getvalue().split())
