from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.postgres import MISSING, programs


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(900)
@pytest.mark.skipif(programs() is None, reason=MISSING)
def test_nothing_of_many_trials_at_once_is_lost_over_postgresql():
    command = [sys.executable, "-m", "benchmarks.tracking", "--trials", "32", "--epochs", "10"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=880)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert [line.partition(":")[0] for line in answer.stdout.splitlines()] == ["server", "database"]
    assert answer.stdout.count("0 metrics and 0 configurations lost") == 2
