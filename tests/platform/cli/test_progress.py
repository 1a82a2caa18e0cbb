from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from advlora.config import EvaluationProtocol
from advlora_platform.cli.progress import ProgressDisplay
from advlora_platform.study.failures import Failure
from advlora_platform.study.observer import Expectant
from advlora_platform.study.trials import TrialFactory

pytestmark = pytest.mark.unit
FACTORY = TrialFactory({}, EvaluationProtocol(), "d")
METRICS = {"val/clean_r1": 0.9, "val/robust_r1:8_255": 0.625}


@pytest.fixture
def said(capsys):
    """Plays a study to a display and returns its lines."""

    def play(*events, total=4, remaining=3, study="study"):
        with ProgressDisplay(study, {"narrow": {"adapter.rank": 2}}) as display:
            assert isinstance(display, Expectant)
            display.expect(total, remaining)
            for event in events:
                event(display)
        return capsys.readouterr().err.splitlines()

    return play


def run(trial, stopped=False):
    def event(display):
        display.trial_started(trial)
        display.trial_finished(trial, METRICS, stopped)

    return event


def test_it_says_how_much_there_is_and_what_is_done_already(said):
    assert "3 of 4 trials to run (1 are done already)" in said()[0]
    assert "4 of 4 trials to run; starting Ray" in said(remaining=4)[0]


def test_every_trial_is_a_line_with_accuracies_and_the_time_left(said):
    lines = said(run(FACTORY.trial("LoRA", 0, {}, "ablate")), run(FACTORY.trial("LoRA", 1, {}, "ablate")))
    assert "[1/3] LoRA/seed 0" in lines[1]
    assert "clean  90.0%  robust  62.5%" in lines[1]
    assert "left" in lines[1]
    assert "[2/3] LoRA/seed 1" in lines[2]


def test_a_search_trial_shows_what_varies(said):
    lines = said(run(FACTORY.trial("search", 0, {"adapter.rank": 4, "optimiser.learning_rate": 1e-3}, "search")))
    assert lines[1] == "[1/3] adapter.rank=4, optimiser.learning_rate=0.001"
    assert lines[2].startswith("      val clean  90.0%  robust  62.5%")


def test_a_tuning_trial_shows_what_is_tuned_and_not_what_defines_its_arm(said):
    lines = said(run(FACTORY.trial("narrow", 0, {"adapter.rank": 2, "optimiser.learning_rate": 1e-3}, "tune")))
    assert lines[1] == "[1/3] tune narrow: optimiser.learning_rate=0.001"


def test_lines_fit_a_terminal_of_80_columns_and_name_whole_keys(said):
    values = {"adapter.adaptive.enabled": True, "adapter.init.clusters": 12, "optimiser.learning_rate": 1.2345e-3}
    trial = FACTORY.trial("search", 0, values, "search")
    tuned = FACTORY.trial("an arm with a rather long name", 0, {"optimiser.learning_rate": 0.01}, "tune")
    lines = said(
        run(trial, stopped=True),
        run(tuned),
        lambda display: display.trial_finished(
            trial, METRICS, False, "masked gradients: " + "0.25 left at epsilon, " * 9
        ),
        lambda display: display.trial_failed(trial, Failure("error", "word " * 60)),
    )
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "adaptive.enabled=True, init.clusters=12, optimiser.learning_rate=0.00123" in text
    assert "tune an arm with a rather long name: optimiser.learning_rate=0.01" in text
    assert text.count("0.25 left at epsilon,") == 9
    assert text.count("word") == 60


def test_an_early_stop_and_a_failure_are_named(said):
    trial = FACTORY.trial("LoRA", 0, {}, "ablate")
    lines = said(
        run(trial, stopped=True), lambda display: display.trial_failed(trial, Failure("diverged", "loss nan\nx"))
    )
    assert "(stopped early)" in lines[2]
    assert "failed (diverged)" in lines[3]
    assert lines[4] == "      loss nan"


@pytest.mark.parametrize("odd", ["[/]", "[bold]arm[/bold]", "[1/3]", "a[0", "rank=[4]"])
def test_names_and_messages_are_not_read_as_markup(said, odd):
    trial = FACTORY.trial(odd, 0, {}, "ablate")
    lines = said(
        lambda display: display.trial_finished(trial, METRICS, False, f"masked: {odd}"),
        lambda display: display.trial_failed(trial, Failure("error", f"KeyError: {odd}")),
        lambda display: display.trial_failed(trial, Failure("error", "")),
        study=odd,
    )
    assert lines[0].startswith(f"{odd}: 3 of 4 trials")
    assert lines[1].startswith(f"[1/3] {odd}/seed 0")
    assert lines[2] == f"      not reliable: masked: {odd}"
    assert "failed (error)" in lines[3]
    assert lines[4] == f"      KeyError: {odd}"


def test_the_bar_shows_names_as_they_are():
    with ProgressDisplay("[/]") as display:
        display.expect(1, 1)
        display.trial_started(FACTORY.trial("[red]", 0, {}, "ablate"))
        shown = Console(file=StringIO(), width=200, force_terminal=True)
        shown.print(display._bar)
    assert "[/]: [red]/seed 0" in shown.file.getvalue()


def test_waiting_is_a_line(said):
    assert (
        said(lambda display: display.waiting("waiting for 1 GPU, since 3 min"))[1] == "waiting for 1 GPU, since 3 min"
    )
