"""Stores that fail, stall or refuse, and drivers that die: nothing is lost, nothing twice, and nobody waits."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future

import pytest

from advlora_platform.study.folder import read_json
from advlora_platform.study.ledger import Ledger
from advlora_platform.tracking import MlflowTracker, delivery
from advlora_platform.tracking.events import Event, TrackedTrial
from advlora_platform.tracking.spool import Spool
from tests.builders import TEST_ROBUST, VAL_ROBUST, ablation, trial
from tests.platform.tracking.tracking_help import folder, picture, play, summary, tracked, watch

pytestmark = pytest.mark.integration
SCORES = {("plain", 0): 0.3, ("plain", 1): 0.5, ("wide", 0): 0.6, ("wide", 1): 0.8}


def whole_study(path, epochs: int = 3) -> MlflowTracker:
    """A study from start to conclusion."""
    study = ablation()
    opened = folder(path, study)
    report = path / "report.md"
    report.write_text("report")
    with MlflowTracker(study, opened) as tracker:
        for (arm, seed), robust in SCORES.items():
            play([Ledger(opened), tracker], trial(arm, seed), robust, epochs)
        tracker.conclude(summary(study, opened, tracker), [report])
    return tracker


@pytest.fixture
def study():
    return ablation()


@pytest.fixture
def opened(store, tmp_path, study):
    return folder(tmp_path / "study", study)


@pytest.mark.parametrize("every", [30, 5])
def test_a_store_that_fails_now_and_then_holds_what_an_undisturbed_one_does(
    store, tmp_path, migrated, monkeypatch, caplog, every
):
    whole_study(tmp_path / "undisturbed", epochs=8)
    undisturbed = picture(store)
    shutil.copy(migrated, tmp_path / "disturbed.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///disturbed.db")
    clients = watch(monkeypatch, every)
    with caplog.at_level(logging.WARNING, "advlora"):
        whole_study(tmp_path / "disturbed", epochs=8)
    assert clients[0].failures >= 1
    assert picture(f"sqlite:///{tmp_path}/disturbed.db") == undisturbed
    assert len(undisturbed) == 7
    assert not (tmp_path / "disturbed" / "tracking-spool.jsonl").exists()
    assert not caplog.records


def test_a_trial_takes_few_calls_and_the_list_of_runs_few_writes(study, opened, monkeypatch):
    (written, write), clients = ([], delivery.write_json), watch(monkeypatch)
    monkeypatch.setattr(delivery, "write_json", lambda *content: (written.append(content), write(*content)))
    tracker = MlflowTracker(study, opened)
    for seed in range(2):
        play([tracker], trial("plain", seed), epochs=3)
    before, begun = clients[0].calls.total(), len(written)
    for seed in range(2, 8):
        tracker.trial_started(trial("plain", seed))
        for epoch in range(3):
            tracker.trial_reported(trial("plain", seed), epoch, {VAL_ROBUST: 0.5})
        tracker.trial_finished(trial("plain", seed), {VAL_ROBUST: 0.5}, False)
    begin = time.monotonic()
    tracker.flush()
    assert (clients[0].calls.total() - before) / 6 <= 8
    assert len(written) - begun <= 1 + (time.monotonic() - begin) / delivery.SAVE_SECONDS
    assert len(read_json(opened.tracking)["runs"]) == 8


def test_reports_that_wait_are_logged_in_one_call_per_trial(study, opened, monkeypatch, store):
    waiting, seeds, epochs = Spool(opened.spool), range(4), range(1, 31)
    for seed in seeds:
        waiting.append(Event("started", TrackedTrial.of_trial(trial("plain", seed))))
    for epoch in epochs:
        for seed in seeds:
            told = {VAL_ROBUST: seed + epoch / 100}
            waiting.append(Event("reported", TrackedTrial.of_trial(trial("plain", seed)), epoch=epoch, metrics=told))
    clients = watch(monkeypatch)
    with MlflowTracker(study, opened):
        pass
    assert clients[0].calls["log_batch"] <= 2 * len(seeds) + 2, "parameters once, all epochs once"
    runs = picture(store)
    for seed in seeds:
        points = runs[f"plain · seed {seed}"]["points"][VAL_ROBUST]
        assert points == [(epoch, seed + epoch / 100) for epoch in epochs]


def test_a_stalled_server_delays_no_event_and_loses_none(server, monkeypatch, study, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    if server.process is None:
        server.start()
    opened, took = folder(tmp_path / "study", study, "stalled"), []
    with MlflowTracker(study, opened) as tracker:
        play([tracker], trial("plain", 0))
        os.killpg(server.process.pid, signal.SIGSTOP)
        try:
            end = time.monotonic() + 7
            tracker.trial_started(trial("plain", 1))
            for epoch in range(1, 21):
                begin = time.monotonic()
                tracker.trial_reported(trial("plain", 1), epoch, {VAL_ROBUST: epoch / 20})
                took.append(time.monotonic() - begin)
            tracker.trial_finished(trial("plain", 1), {VAL_ROBUST: 1.0}, False)
            assert not tracker.flush(0.5)
            time.sleep(max(0, end - time.monotonic()))
        finally:
            os.killpg(server.process.pid, signal.SIGCONT)
        assert tracker.flush(60)
    assert sorted(took)[10] < 0.1
    assert max(took) < 1
    MlflowTracker(study, opened).close()  # a run that the server made after its client had gone is taken away
    runs = picture(server.uri, "stalled")
    assert set(runs) == {"parts", "plain", "plain · seed 0", "plain · seed 1"}
    assert runs["plain · seed 1"]["points"][VAL_ROBUST] == [(epoch, epoch / 20) for epoch in range(1, 21)]
    assert runs["plain · seed 1"]["status"] == "FINISHED"


def test_artefacts_that_cannot_be_written_cost_nothing_else(store, study, opened, tmp_path, caplog):
    (tmp_path / "mlartifacts").write_text("a file, where a folder should be")
    with caplog.at_level(logging.WARNING, "advlora"):
        whole_study(opened.path)
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == ["MLflow takes no artefacts"]
    runs = tracked(store)
    assert len(runs) == 7
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert runs["wide · seed 1"].data.metrics[f"final/{VAL_ROBUST}"] == 0.8
    assert runs["wide"].data.metrics[f"mean/{VAL_ROBUST}"] == pytest.approx(0.7)


def test_what_was_spooled_just_before_a_job_was_asked_for_is_delivered_before_it(store, study, opened):
    """The thread has looked into the spool, and then an event and a job arrive, one after the other."""
    with MlflowTracker(study, opened) as tracker:
        thread = tracker._delivery
        spool, front, asked = thread._spool, thread._spool.front, Future()

        def looked_too_early(most):
            events = front(most)
            if not events and not thread._jobs and not asked.done():
                spool.append(Event("started", TrackedTrial.of_trial(trial("wide", 1))))
                thread._jobs.append((asked, lambda: tracker._runs.trials()))
            return events

        spool.front = looked_too_early
        thread.notify()
        assert trial("wide", 1).id in asked.result(20)


@pytest.mark.parametrize("metrics", [{"": 0.5}, {VAL_ROBUST: "not a number"}], ids=["refused", "poisoned"])
def test_an_event_that_can_never_be_delivered_is_said_once_and_holds_nothing_up(
    store, study, opened, monkeypatch, caplog, metrics
):
    monkeypatch.setattr(delivery, "RETRY_SECONDS", 0.01)
    tracker = MlflowTracker(study, opened)
    tracker.trial_started(trial())
    with caplog.at_level(logging.WARNING, "advlora"):
        tracker._observe(Event("reported", TrackedTrial.of_trial(trial()), epoch=1, metrics=metrics))
        play([tracker], trial())
    assert ["MLflow refuses reported of" in record.getMessage() for record in caplog.records] == [True]
    assert tracked(store)["plain · seed 0"].info.status == "FINISHED"
    assert not opened.spool.exists()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_interrupted_driver_leaves_no_run_open_and_the_next_one_takes_them_up(store, study, opened, interruption):
    threads = threading.active_count()

    def interrupted():
        with MlflowTracker(study, opened) as tracker:
            play([tracker], trial("plain", 0))
            tracker.trial_started(trial("plain", 1))
            raise interruption

    with pytest.raises(interruption):
        interrupted()
    statuses = {name: run.info.status for name, run in tracked(store).items()}
    ended = {"plain · seed 0": "FINISHED"}
    assert statuses == {"parts": "KILLED", "plain": "KILLED", "plain · seed 1": "KILLED", **ended}
    assert threading.active_count() <= threads + 2

    tracker = MlflowTracker(study, opened)
    tracker.trial_started(trial("plain", 1))
    tracker.flush()
    statuses = {name: run.info.status for name, run in tracked(store).items()}
    assert statuses == {"parts": "RUNNING", "plain": "RUNNING", "plain · seed 1": "RUNNING", **ended}


def test_runs_that_a_dead_driver_left_open_are_ended_unless_they_are_taken_up(store, study, opened):
    dead = MlflowTracker(study, opened)
    for arm, seed in SCORES:
        dead.trial_started(trial(arm, seed))
    dead.flush()
    assert {run.info.status for run in tracked(store).values()} == {"RUNNING"}
    play([MlflowTracker(study, opened)], trial("plain", 0))
    statuses = {name: run.info.status for name, run in tracked(store).items()}
    assert statuses.pop("plain · seed 0") == "FINISHED"
    assert {name for name, status in statuses.items() if status == "RUNNING"} == {"parts", "plain"}
    assert set(statuses.values()) == {"RUNNING", "KILLED"}


DRIVER = """
import os, signal, sys
from pathlib import Path
from advlora_platform.tracking import MlflowTracker
from tests.builders import *
from tests.platform.tracking.tracking_help import *

study = ablation()
tracker = MlflowTracker(study, folder(Path(sys.argv[1]), study, "dead"))
play([tracker], trial("plain", 0))
os.killpg(int(sys.argv[2]), signal.SIGSTOP)
tracker.trial_started(trial("plain", 1))
for epoch in range(1, 4):
    tracker.trial_reported(trial("plain", 1), epoch, {VAL_ROBUST: epoch / 4})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_driver_wrote_down_before_it_was_killed_is_delivered_by_the_next(server, monkeypatch, study, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    if server.process is None:
        server.start()
    opened = folder(tmp_path / "study", study, "dead")
    try:
        done = subprocess.run([sys.executable, "-c", DRIVER, str(opened.path), str(server.process.pid)])
    finally:
        os.killpg(server.process.pid, signal.SIGCONT)
    assert done.returncode == -signal.SIGKILL
    assert len([line for line in opened.spool.read_text().split("\n") if line]) >= 4
    with MlflowTracker(study, opened) as tracker:
        tracker.flush(60)
        runs = picture(server.uri, "dead")
        assert runs["plain · seed 1"]["status"] == "KILLED"
        assert runs["plain · seed 1"]["points"][VAL_ROBUST] == [(1, 0.25), (2, 0.5), (3, 0.75)]
        tracker.trial_started(trial("plain", 1))
        tracker.trial_finished(trial("plain", 1), {VAL_ROBUST: 1.0, TEST_ROBUST: 0.9}, False)
        assert tracker.flush(60)
    runs = picture(server.uri, "dead")
    assert {name: run["status"] for name, run in runs.items() if "seed" in name} == {
        "plain · seed 0": "FINISHED",
        "plain · seed 1": "FINISHED",
    }
    assert runs["plain · seed 0"]["points"][VAL_ROBUST] == [(1, 0.25), (2, 0.5)]
    assert json.loads(opened.tracking.read_text())["runs"].keys() == {trial("plain", seed).id for seed in (0, 1)}
