from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import psutil
import pytest

from advlora.errors import UserError
from advlora_platform.study import lease
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.lease import Lease

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path):
    return StudyFolder(tmp_path / "study")


def held_by(folder: StudyFolder, pid: int, host: str, born: float) -> None:
    folder.path.mkdir(exist_ok=True)
    folder.lease.write_text(json.dumps({"pid": pid, "host": host, "born": born}))


def test_a_second_driver_is_refused_and_told_by_whom(folder):
    with Lease(folder), pytest.raises(UserError, match=rf"process \(id {os.getpid()} on .*--out"), Lease(folder):
        pass


def test_the_lease_is_free_again_after_the_driver_even_if_it_failed(folder):
    with pytest.raises(RuntimeError), Lease(folder):
        raise RuntimeError
    with Lease(folder):
        assert folder.lease.exists()
    assert not folder.lease.exists()


def test_a_killed_driver_leaves_no_lock(folder):
    code = f"""
from pathlib import Path
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.lease import Lease
import time
with Lease(StudyFolder(Path({str(folder.path)!r}))):
    print("held", flush=True)
    time.sleep(60)
"""
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert driver.stdout.readline().strip() == "held"
    with pytest.raises(UserError, match=str(driver.pid)), Lease(folder):
        pass
    driver.kill()
    driver.wait()
    with Lease(folder):
        pass


def test_a_process_id_that_was_given_to_another_process_holds_nothing(folder):
    held_by(folder, os.getpid(), socket.gethostname(), psutil.Process().create_time() - 1000)
    with Lease(folder):
        pass


def test_a_driver_on_another_machine_lives_while_it_renews(folder):
    held_by(folder, 1, "elsewhere", 0.0)
    with pytest.raises(UserError, match="elsewhere"), Lease(folder):
        pass
    long_ago = time.time() - 2 * lease.STALE_SECONDS
    os.utime(folder.lease, (long_ago, long_ago))
    with Lease(folder):
        pass


def test_renewing_shows_a_sign_of_life(folder, monkeypatch):
    with Lease(folder) as held:
        long_ago = time.time() - lease.STALE_SECONDS
        os.utime(folder.lease, (long_ago, long_ago))
        held._renewed = long_ago
        held.renew()
        assert time.time() - folder.lease.stat().st_mtime < 10


def test_a_torn_lease_is_replaced(folder):
    folder.path.mkdir()
    folder.lease.write_text('{"pid": 1')
    with Lease(folder):
        pass
