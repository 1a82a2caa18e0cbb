"""What `docs/cluster.md` tells to type exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from advlora_platform.cli.app import application

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "cluster.md").read_text()
BLOCKS = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).replace("\\\n", " ")
COMMANDS = [shlex.split(line, comments=True) for line in BLOCKS.splitlines() if line.startswith("advlora ")]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:2]))
def test_a_command_takes_the_options_that_it_is_shown_with(words):
    command = application.get_command(None, words[1])
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_every_verb_of_a_cluster_is_shown():
    assert {words[1] for words in COMMANDS} == {"doctor", "submit", "status", "stop"}


def test_every_file_that_is_named_exists():
    named = set(re.findall(r"platform/deploy/[\w.-]+\w", PAGE))
    assert len(named) >= 6
    assert all((ROOT / name).is_file() for name in named)


def test_every_place_on_the_page_that_is_linked_exists():
    headings = {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", PAGE, re.M)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= headings
