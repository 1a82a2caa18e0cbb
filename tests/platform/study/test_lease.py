"""One driver per study, whatever the timing: real processes that start at once, die, stop and move the clock."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from advlora.errors import UserError
from advlora_platform.study import holder
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.holder import Holder
from advlora_platform.study.lease import Lease

pytestmark = pytest.mark.unit
DRIVERS = 40
STALE = 1.2
"""Seconds, where a test waits for them."""
ELSEWHERE = {"host": "elsewhere", "machine": "elsewhere 5a1b pid:[4026531836]"}
OTHER_NAMESPACE = {"machine": f"{holder.machine().rpartition(' ')[0]} pid:[4026532999]"}


@pytest.fixture
def folder(tmp_path):
    return StudyFolder(tmp_path / "study")


def held_by(folder, *, ago=0.0, **who):
    """Writes the lease of another driver, whose last sign of life is some seconds old."""
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.lease.write_text(replace(Holder.me(), **who).text())
    set_back(folder.lease, ago)


def set_back(path, seconds):
    moment = path.stat().st_mtime - seconds
    os.utime(path, (moment, moment))


@contextmanager
def driver(folder, *arguments):
    """A process that takes the lease, says so, and keeps it."""
    code = f"""
import sys, time
from pathlib import Path
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.lease import Lease
with Lease(StudyFolder(Path({str(folder.path)!r})), {", ".join(arguments)}) as lease:
    print("held", flush=True)
    while True:
        time.sleep(0.02)
        lease.check()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_driver_is_refused_and_told_by_whom(folder):
    said = rf"process \(id {os.getpid()} on .*, since 20.*\) drives the study .*--wait.*--out"
    with Lease(folder), pytest.raises(UserError, match=said), Lease(folder):
        pass


def test_the_lease_is_free_again_after_the_driver_even_if_it_failed(folder):
    with pytest.raises(RuntimeError), Lease(folder):
        raise RuntimeError
    with Lease(folder):
        assert folder.lease.exists()
    assert not folder.lease.exists()


def test_a_killed_driver_frees_the_lease_at_once_even_before_its_parent_notices(folder):
    with driver(folder) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=str(process.pid)), Lease(folder):
            pass
        process.kill()
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        begin = time.monotonic()
        with Lease(folder):
            assert time.monotonic() - begin < 1


CONTENDERS = """
import os, sys, time
from pathlib import Path
from filelock import FileLock
from advlora.errors import UserError
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.lease import Lease

def contend(place, me, apart):
    while not (place / "go").exists():
        time.sleep(0.02)
    lease = Lease(StudyFolder(place / "study"))
    if apart:
        lease._lock = FileLock(place / f"machine-{me}.lock")
    time.sleep(max(0.0, float((place / "go").read_text()) - time.time()))
    try:
        with lease:
            (place / f"{me}.held").touch()
            while not (place / "end").exists():
                time.sleep(0.01)
    except UserError as refusal:
        (place / f"{me}.said").write_text(str(refusal))
        (place / f"{me}.said").rename(place / f"{me}.refused")

root, drivers, rounds, apart = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "apart"
for me in range(drivers):
    if os.fork() == 0:
        for number in range(rounds):
            contend(root / str(number), me, apart)
        os._exit(0)
for _ in range(drivers):
    assert os.wait()[1] == 0
"""


def contest(root, rounds, apart):
    """Starts all drivers at one moment, round after round, over an empty folder and over a dead driver's lease in turn.

    Returns:
        For each round, who held the lease, and what the others were told.
    """
    arguments = [str(root), str(DRIVERS), str(rounds), "apart" if apart else "together"]
    drivers = subprocess.Popen([sys.executable, "-c", CONTENDERS, *arguments], start_new_session=True)
    try:
        return [one_round(root / str(number), drivers, dead=number % 2 == 1) for number in range(rounds)]
    finally:
        os.killpg(drivers.pid, signal.SIGKILL)
        drivers.wait()


def one_round(place, drivers, dead):
    place.mkdir()
    if dead:
        held_by(StudyFolder(place / "study"), pid=2**22 + 1)
    (place / "soon").write_text(str(time.time() + 0.3))
    (place / "soon").rename(place / "go")
    while len(answers := [*place.glob("*.held"), *place.glob("*.refused")]) < DRIVERS:
        assert drivers.poll() is None, "a driver crashed"
        time.sleep(0.02)
    (place / "end").touch()
    held = [answer.stem for answer in answers if answer.suffix == ".held"]
    return held, [answer.read_text() for answer in answers if answer.suffix == ".refused"]


@pytest.mark.parametrize("rounds", [6, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
@pytest.mark.parametrize("apart", [False, True], ids=["one machine", "storage whose locks reach no other machine"])
def test_of_forty_drivers_that_start_at_once_exactly_one_drives(tmp_path, rounds, apart):
    for held, refusals in contest(tmp_path, rounds, apart):
        assert len(held) == 1
        assert len(refusals) == DRIVERS - 1
        assert all("drives the study" in refusal for refusal in refusals)


def test_a_process_id_that_was_given_to_another_process_holds_nothing(folder):
    held_by(folder, born=holder.birth(os.getpid()) - 1000)
    with Lease(folder):
        pass


def test_a_driver_here_needs_no_sign_of_life(folder):
    held_by(folder, ago=10_000)
    with pytest.raises(UserError, match=str(os.getpid())), Lease(folder, stale_seconds=STALE):
        pass


def test_the_birth_of_a_process_does_not_move_with_the_clock():
    ticks = holder.birth(os.getpid())
    up = float(Path("/proc/uptime").read_text().split()[0])
    age = time.time() - psutil.Process().create_time()
    assert ticks / os.sysconf("SC_CLK_TCK") == pytest.approx(up - age, abs=1.0)


@pytest.mark.parametrize("who", [ELSEWHERE, OTHER_NAMESPACE], ids=["machine", "namespace"])
def test_a_driver_that_cannot_be_seen_is_dead_after_long_silence_only(folder, who, caplog):
    held_by(folder, pid=1, born=0.0, **who)
    begin = time.monotonic()
    with Lease(folder, stale_seconds=STALE):
        assert time.monotonic() - begin >= STALE - 0.1
    (line,) = caplog.messages
    assert "process (id 1 on " in line


@contextmanager
def signs_of_life(folder, every):
    """Another driver that renews its lease."""
    over = threading.Event()

    def give():
        while not over.wait(every):
            os.utime(folder.lease)

    thread = threading.Thread(target=give)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.mark.parametrize("step", [3600, -3600], ids=["forward", "back"])
def test_a_step_of_the_clock_lets_no_second_driver_in(folder, step):
    """After a step of the storage's clock the last sign of life looks old, or as if it were still to come."""
    held_by(folder, ago=step, **ELSEWHERE)
    with signs_of_life(folder, every=0.1), pytest.raises(UserError, match="elsewhere"):
        Lease(folder, stale_seconds=12).__enter__()


def test_a_driver_that_died_before_a_step_of_the_clock_is_followed_soon(folder):
    held_by(folder, ago=-3600, **ELSEWHERE)
    begin = time.monotonic()
    with Lease(folder, stale_seconds=12):
        assert 0.9 < time.monotonic() - begin < 6


def test_signs_of_life_go_on_while_the_main_thread_is_blocked(folder):
    with Lease(folder, stale_seconds=STALE):
        before = folder.lease.stat().st_mtime
        ctypes.CDLL(None).usleep(900_000)
        assert folder.lease.stat().st_mtime - before > 0.2


def test_a_driver_whose_lease_was_taken_stops_with_one_sentence_and_leaves_it(folder):
    with driver(folder, f"stale_seconds={STALE}") as process:
        process.stdout.readline()
        held_by(folder, **ELSEWHERE)
        _, error = process.communicate(timeout=20)
        assert error.splitlines()[-1].startswith("advlora.errors.UserError: another process (id")
        assert "on elsewhere" in error.splitlines()[-1]
        assert "has taken over the study" in error.splitlines()[-1]
    assert json.loads(folder.lease.read_text())["host"] == "elsewhere"


def test_the_loss_of_the_lease_is_the_reason_whatever_the_run_says(folder):
    def run():
        with Lease(folder):
            held_by(folder, **ELSEWHERE)
            raise RuntimeError

    with pytest.raises(UserError, match="has taken over the study"):
        run()


def test_a_driver_that_was_stopped_and_goes_on_finds_its_lease_lost(folder):
    with driver(folder, f"stale_seconds={STALE}") as process:
        process.stdout.readline()
        folder.lease.write_text(json.dumps({**json.loads(folder.lease.read_text()), **ELSEWHERE}))
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        follower = Lease(folder, stale_seconds=STALE)
        with pytest.raises(UserError, match="elsewhere"):
            follower.__enter__()  # the lock of the operating system holds: it is another namespace here
        follower._lock = Lease(StudyFolder(folder.path / "as on another machine"))._lock
        (folder.path / "as on another machine").mkdir()
        with follower:
            process.send_signal(signal.SIGCONT)
            _, error = process.communicate(timeout=20)
            assert "has taken over the study" in error
            follower.check()


def test_a_lease_that_was_removed_by_hand_comes_back(folder):
    with Lease(folder, stale_seconds=STALE) as lease:
        folder.lease.unlink()
        time.sleep(0.5)
        lease.check()
        with pytest.raises(UserError), Lease(folder):
            pass


def test_storage_that_does_not_answer_for_a_while_disturbs_nobody(folder):
    with Lease(folder, stale_seconds=STALE) as lease:
        folder.path.rename(folder.path.with_name("away"))
        time.sleep(0.3)
        lease.check()
        folder.path.with_name("away").rename(folder.path)
        time.sleep(0.3)
        lease.check()


@pytest.mark.parametrize("content", ["", '{"pid": 1', '{"pid": 1, "host": "an older form"}', "[]"])
def test_a_damaged_lease_is_replaced_but_not_at_once(folder, content):
    folder.path.mkdir()
    folder.lease.write_text(content)
    begin = time.monotonic()
    with Lease(folder, stale_seconds=STALE):
        assert time.monotonic() - begin >= STALE - 0.1


def test_waiting_takes_over_when_the_driver_ends_and_says_once_for_whom(folder, caplog):
    with driver(folder) as process:
        process.stdout.readline()
        killer = threading.Timer(2.5, process.kill)
        killer.start()
        begin = time.monotonic()
        with Lease(folder, wait=True):
            assert 2 < time.monotonic() - begin < 10
    (line,) = caplog.messages
    assert f"another process (id {process.pid} on " in line
    assert "since 20" in line
    assert "waiting until it ends" in line


def test_a_claim_that_its_driver_did_not_live_to_move_is_followed_in_turn(folder):
    held_by(folder, pid=2**22 + 1)
    first = Holder.read(folder.lease.read_text(), 0.0)
    claim = folder.lease.with_name(f"lease.json.after-{first.token}")
    claim.write_text(replace(Holder.me(), pid=2**22 + 2).text())
    with Lease(folder) as lease:
        assert Holder.read(folder.lease.read_text(), 0.0) == lease._me
    assert sorted(path.name for path in folder.path.iterdir()) == ["lease.lock"]
