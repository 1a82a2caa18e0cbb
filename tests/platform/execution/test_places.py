from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from advlora_platform.execution.places import Place, _kill

pytestmark = pytest.mark.unit


@pytest.fixture
def stopped():
    """A process that answers no request to exit."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    process.send_signal(signal.SIGSTOP)
    yield process
    process.kill()
    process.wait()


def test_a_process_that_does_not_answer_is_killed(stopped):
    place = Place("", stopped.pid, psutil.Process(stopped.pid).create_time())
    _kill(place)
    assert stopped.wait(timeout=10) == -signal.SIGKILL
    _kill(place)  # gone already


def test_another_process_with_the_same_number_is_spared(stopped):
    place = Place("", stopped.pid, psutil.Process(stopped.pid).create_time())
    _kill(replace(place, began=place.began - 1))
    time.sleep(0.2)
    assert stopped.poll() is None
