from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from advlora_platform.cli import main


@dataclass
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture
def advlora(monkeypatch, capsys, tmp_path):
    """Runs the command line in this process, in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["advlora", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return run
