"""A real MLflow server: the same layout, and what happens when it goes away."""

from __future__ import annotations

import json
import logging
import time

import pytest

from advlora.errors import UserError
from advlora_platform.study.ledger import Ledger
from advlora_platform.tracking import MlflowTracker, delivery, known_runs
from advlora_platform.tracking.store import open_store
from tests.builders import TEST_ROBUST, VAL_ROBUST, ablation, trial
from tests.platform.tracking.tracking_help import folder, play, summary, tracked

pytestmark = pytest.mark.integration


@pytest.fixture
def uri(server, monkeypatch):
    """The server's address with a user and a password, which it does not ask for."""
    if server.process is None:
        server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("//", "//ada:s3cret@"))
    monkeypatch.setattr(delivery, "RETRY_SECONDS", 0.5)
    return server.uri


def test_a_server_needs_nothing_but_its_address(uri, tmp_path):
    study = ablation(name="served")
    opened = folder(tmp_path / "study", study, "served")
    observer = MlflowTracker(study, opened)
    for arm in ("plain", "wide"):
        for seed in (0, 1):
            play([Ledger(opened), observer], trial(arm, seed), 0.3 if arm == "plain" else 0.6)
    report = tmp_path / "report.md"
    report.write_text("report")
    observer.conclude(summary(study, opened, observer), [report])
    runs = tracked(uri, "served")
    assert len(runs) == 7
    assert runs["wide"].data.metrics[f"mean/{VAL_ROBUST}"] == pytest.approx(0.6)
    assert runs["wide · seed 0"].data.tags["advlora.best"] == "true"
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    client = open_store(uri)
    assert [entry.path for entry in client.list_artifacts(runs["served"].info.run_id)] == ["report.md"]
    assert [entry.path for entry in client.list_artifacts(runs["wide · seed 1"].info.run_id)] == ["config.yaml"]


def test_credentials_are_in_no_file_of_the_study(uri, tmp_path):
    study = ablation(name="secret")
    play([MlflowTracker(study, folder(tmp_path / "study", study, "secret"))], trial())
    texts = [path.read_text() for path in (tmp_path / "study").rglob("*.json*")]
    assert json.loads((tmp_path / "study" / "tracking.json").read_text())["uri"] == uri
    assert not [text for text in texts if "s3cret" in text]
    assert not [run for run in tracked(uri, "secret").values() if "s3cret" in str(run.to_dictionary())]


def test_what_a_killed_server_does_not_take_is_delivered_when_it_is_back(server, uri, tmp_path, caplog):
    study = ablation(name="outage")
    opened = folder(tmp_path / "study", study, "outage")
    ledger, observer = Ledger(opened), MlflowTracker(study, opened)
    play([ledger, observer], trial("plain", 0), 0.3)
    observer.trial_started(trial("plain", 1))
    observer.trial_reported(trial("plain", 1), 1, {VAL_ROBUST: 0.25})
    observer.flush()

    server.kill()
    with caplog.at_level(logging.WARNING, "advlora"):
        begin = time.monotonic()
        observer.trial_reported(trial("plain", 1), 2, {VAL_ROBUST: 0.5})
        ledger.trial_started(trial("plain", 1))
        for listener in (ledger, observer):
            listener.trial_finished(trial("plain", 1), {VAL_ROBUST: 0.5, TEST_ROBUST: 0.4}, False)
        play([ledger, observer], trial("wide", 0), 0.6)
        observer.conclude(summary(study, opened, observer), [])
        assert time.monotonic() - begin < 5
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2, warnings
    assert "the server does not answer" in warnings[0]
    assert "conclusion" in warnings[1]
    assert "s3cret" not in caplog.text
    assert len(opened.spool.read_text().split()) > 0
    assert set(known_runs(opened)) == {trial("plain", 0).id, trial("plain", 1).id}
    with pytest.raises(UserError, match="does not answer"):
        MlflowTracker(study, opened)

    server.start()
    time.sleep(0.5)
    play([ledger, observer], trial("wide", 1), 0.8)
    assert not opened.spool.exists()
    observer.conclude(summary(study, opened, observer), [])
    runs = tracked(uri, "outage")
    assert len(runs) == 7
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    points = open_store(uri).get_metric_history(runs["plain · seed 1"].info.run_id, VAL_ROBUST)
    assert [(point.step, point.value) for point in points] == [(1, 0.25), (2, 0.5)]
    assert runs["wide · seed 0"].data.metrics[f"final/{VAL_ROBUST}"] == 0.6
    assert set(known_runs(opened)) == {trial(arm, seed).id for arm in ("plain", "wide") for seed in (0, 1)}


def test_the_next_launch_delivers_what_an_earlier_one_left_and_twice_is_once(server, uri, tmp_path):
    study = ablation(name="left")
    opened = folder(tmp_path / "study", study, "left")
    observer = MlflowTracker(study, opened)
    server.kill()
    play([observer], trial("plain", 0), 0.3)
    left = opened.spool.read_text()
    observer.close(0)
    server.start()
    for _ in range(2):
        # As after a crash before the offset was written: everything is delivered again.
        opened.spool.write_text(left + '\n{"kind": "fini')
        opened.spool.with_suffix(".offset").unlink(missing_ok=True)
        MlflowTracker(study, opened).close()
        assert not opened.spool.exists()
    runs = tracked(uri, "left")
    assert set(runs) == {"left", "plain", "plain · seed 0"}
    run = runs["plain · seed 0"]
    assert run.info.status == "FINISHED"
    points = open_store(uri).get_metric_history(run.info.run_id, VAL_ROBUST)
    assert [(point.step, point.value) for point in points] == [(1, 0.15), (2, 0.3)]
