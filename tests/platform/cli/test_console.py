from __future__ import annotations

import re

import pytest

from advlora_platform.cli.console import messages, output, phase, report_problems, status

pytestmark = pytest.mark.unit
ODD = r"[/] [bold]x[/bold] [1/3] a[0] :fire: \\ [red"


def test_text_of_users_is_printed_as_it_is(capsys):
    output.print(ODD)
    messages.print(ODD)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (f"{ODD}\n", f"{ODD}\n")


def test_problems_keep_their_brackets(capsys):
    report_problems(["arms: '[/]' is no name", "seeds: [0, 0] repeat"])
    assert capsys.readouterr().err.splitlines() == [
        "error: arms: '[/]' is no name",
        "error: seeds: [0, 0] repeat",
    ]


def test_what_is_being_done_may_name_anything():
    with status("measuring [/] model") as shown:
        assert shown.status == r"measuring \[/] model"


def test_a_phase_says_when_it_begins_and_how_long_it_took(capsys):
    with phase("checking [/] model"):
        assert capsys.readouterr().err == "checking [/] model ...\n"
    assert re.fullmatch(r"checking \[/\] model: 0\.\d s\n", capsys.readouterr().err)


def test_an_unknown_study_with_brackets_in_its_name_is_refused_in_one_sentence(advlora):
    answer = advlora("validate", "[/odd]")
    assert answer.code == 2
    assert "[/odd]" in answer.err
