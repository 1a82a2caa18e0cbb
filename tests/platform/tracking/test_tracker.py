"""The runs of a study as another client of the store sees them."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from advlora_platform.study.failures import Failure
from advlora_platform.study.folder import read_json
from advlora_platform.study.ledger import Ledger
from advlora_platform.study.observer import Observer
from advlora_platform.tracking import MlflowTracker, known_runs
from advlora_platform.tracking.experiments import metric_name, metric_names
from advlora_platform.tracking.store import open_store
from tests.builders import TEST_ROBUST, VAL_ROBUST, ablation, factory, sweep, trial
from tests.platform.tracking.tracking_help import folder, play, summary, tracked

pytestmark = pytest.mark.integration


@pytest.fixture
def study():
    return ablation()


@pytest.fixture
def opened(store, tmp_path, study):
    return folder(tmp_path / "study", study)


def parent(run):
    return run.data.tags.get("mlflow.parentRunId")


def artefacts(uri: str, run, path: str | None = None) -> set[str]:
    return {entry.path for entry in open_store(uri).list_artifacts(run.info.run_id, path)}


def test_the_tracker_is_an_observer():
    for name, wanted in inspect.getmembers(Observer, inspect.isfunction):
        if name.startswith("trial_"):
            assert inspect.signature(getattr(MlflowTracker, name)) == inspect.signature(wanted)


def test_runs_nest_and_every_run_has_the_tags_of_the_study(store, study, opened):
    tracker = MlflowTracker(study, opened)
    play([tracker], trial("plain", 0))
    play([tracker], trial("wide", 1))
    runs = tracked(store)
    assert set(runs) == {"parts", "plain", "wide", "plain · seed 0", "wide · seed 1"}
    assert parent(runs["parts"]) is None
    assert parent(runs["wide"]) == runs["parts"].info.run_id
    assert parent(runs["wide · seed 1"]) == runs["wide"].info.run_id
    for run in runs.values():
        assert run.data.tags["advlora.study"] == "parts"
        assert run.data.tags["advlora.study_id"] == "a1b2c3"
        assert run.data.tags["advlora.study_kind"] == "ablation"
    kinds = {name: run.data.tags["advlora.kind"] for name, run in runs.items()}
    assert kinds["parts"] == "study"
    assert kinds["wide"] == "arm"
    assert kinds["wide · seed 1"] == "trial"
    assert runs["parts"].data.tags["mlflow.note.content"] == "Which part?"


def test_a_trial_holds_what_varies_as_parameters_and_everything_as_an_artefact(store, study, opened, tmp_path):
    wide = trial("wide", 1)
    play([MlflowTracker(study, opened)], wide)
    run = tracked(store)["wide · seed 1"]
    assert run.data.params == {"arm": "wide", "seed": "1", "phase": "ablate", "adapter.rank": "16"}
    tags = {name: run.data.tags[f"advlora.{name}"] for name in ("arm", "phase", "seed", "trial", "stopped_early")}
    assert tags == {"arm": "wide", "phase": "ablate", "seed": "1", "trial": wide.id, "stopped_early": "false"}
    assert run.info.status == "FINISHED"
    assert run.info.artifact_uri.startswith(f"file://{tmp_path}/mlartifacts/parts/")
    path = open_store(store).download_artifacts(run.info.run_id, "config.yaml")
    assert yaml.safe_load(Path(path).read_text()) == wide.config.model_dump(mode="json")


def test_epochs_are_steps_and_last_values_are_named(store, study, opened):
    play([MlflowTracker(study, opened)], trial(), robust=0.5)
    run = tracked(store)["plain · seed 0"]
    points = open_store(store).get_metric_history(run.info.run_id, VAL_ROBUST)
    assert [(point.step, point.value) for point in points] == [(1, 0.25), (2, 0.5)]
    assert run.data.metrics[f"final/{VAL_ROBUST}"] == 0.5
    assert run.data.metrics[f"final/{TEST_ROBUST}"] == 0.4


def test_a_sweep_has_no_arms_and_its_trials_are_named_by_their_values(store, tmp_path):
    study = sweep()
    tracker = MlflowTracker(study, folder(tmp_path / "study", study))
    tried = trial("search", 0, "search", adapter__rank=4, adapter__init="kmeans", attack__epsilon=1 / 255)
    tracker.trial_started(tried)
    tracker.trial_finished(tried, {VAL_ROBUST: 0.3}, True)
    tracker.flush()
    runs = tracked(store)
    run = runs["rank=4, init=kmeans, epsilon=0.00392"]
    assert parent(run) == runs["search"].info.run_id
    assert run.data.tags["advlora.stopped_early"] == "true"


def test_a_tuning_trial_is_named_by_what_is_tuned(store, study, opened):
    play([MlflowTracker(study, opened)], trial("wide", 1000, "tune", optimiser__learning_rate=0.001))
    runs = tracked(store)
    assert parent(runs["tune · learning_rate=0.001"]) == runs["wide"].info.run_id


def test_a_failure_is_told_and_forgotten_when_the_trial_succeeds(store, study, opened, tmp_path):
    tracker = MlflowTracker(study, opened)
    tracker.trial_started(trial())
    tracker.trial_failed(trial(), Failure("lost_worker", "the process died\n" + "x" * 9000, "Traceback of Tune"))
    tracker.flush()
    run = tracked(store)["plain · seed 0"]
    assert run.info.status == "FAILED"
    assert run.data.tags["advlora.failure"] == "lost_worker"
    assert run.data.tags["advlora.failure_message"].startswith("the process died")
    assert MlflowClient(store).download_artifacts(run.info.run_id, "error.txt", str(tmp_path))
    assert (tmp_path / "error.txt").read_text().endswith("Traceback of Tune\n")
    tracker.trial_started(trial())
    tracker.flush()
    assert tracked(store)["plain · seed 0"].info.status == "RUNNING"
    play([tracker], trial())
    run = tracked(store)["plain · seed 0"]
    assert run.info.status == "FINISHED"
    assert not [tag for tag in run.data.tags if tag.startswith("advlora.failure")]


def test_a_second_launch_continues_the_run_of_an_interrupted_one(store, study, opened):
    first = MlflowTracker(study, opened)
    play([first], trial("plain", 0))
    first.trial_started(trial("plain", 1))
    first.trial_reported(trial("plain", 1), 1, {VAL_ROBUST: 0.2})
    first.flush()
    before = tracked(store)

    second = MlflowTracker(study, opened)
    play([second], trial("plain", 1))
    play([second], trial("wide", 0))
    after = tracked(store)
    assert {name: run.info.run_id for name, run in before.items()}.items() <= {
        name: run.info.run_id for name, run in after.items()
    }.items()
    assert after["plain · seed 1"].info.status == "FINISHED"
    assert after["plain · seed 0"].info.end_time == before["plain · seed 0"].info.end_time
    assert set(second.runs()) == {trial("plain", 0).id, trial("plain", 1).id, trial("wide", 0).id}


def test_tracking_json_tells_the_runs_without_the_store(store, study, opened, tmp_path):
    assert known_runs(opened) == {}
    tracker = MlflowTracker(study, opened)
    play([tracker], trial())
    (tmp_path / "mlflow.db").unlink()
    assert tracker.runs() == known_runs(opened) == {trial().id: known_runs(opened)[trial().id]}
    content = json.loads(opened.tracking.read_text())
    assert set(content) == {"uri", "experiment_id", "study_run", "runs"}
    assert content["uri"] == store


def test_two_studies_of_one_name_share_an_experiment_and_no_run(store, study, tmp_path):
    one, other = folder(tmp_path / "one", study, "one"), folder(tmp_path / "other", study, "other")
    trackers = MlflowTracker(study, one), MlflowTracker(study, other)
    for tracker in trackers:
        play([tracker], trial())
    assert read_json(one.tracking)["experiment_id"] == read_json(other.tracking)["experiment_id"]
    for study_id in ("one", "other"):
        assert set(tracked(store, study_id)) == {"parts", "plain", "plain · seed 0"}
    assert trackers[0].runs().keys() == trackers[1].runs().keys()
    assert not set(trackers[0].runs().values()) & set(trackers[1].runs().values())


def test_a_run_deleted_in_the_ui_is_made_anew_and_not_brought_back(store, study, opened):
    tracker = MlflowTracker(study, opened)
    tracker.trial_started(trial())
    deleted = tracker.runs()[trial().id]
    open_store(store).delete_run(deleted)
    tracker.trial_finished(trial(), {VAL_ROBUST: 0.5}, False)
    tracker.flush()
    run = tracked(store)["plain · seed 0"]
    assert run.info.run_id != deleted
    assert run.data.metrics[f"final/{VAL_ROBUST}"] == 0.5
    assert open_store(store).get_run(deleted).info.lifecycle_stage == "deleted"


def test_another_store_gets_what_is_done_already(store, study, opened, migrated, monkeypatch, tmp_path):
    play([Ledger(opened), MlflowTracker(study, opened)], trial("plain", 0))
    shutil.copy(migrated, tmp_path / "second.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///second.db")
    tracker = MlflowTracker(study, opened)
    tracker.flush()
    run = tracked(f"sqlite:///{tmp_path}/second.db")["plain · seed 0"]
    assert run.info.status == "FINISHED"
    assert run.data.metrics[f"final/{VAL_ROBUST}"] == 0.5
    assert read_json(opened.tracking)["uri"] == f"sqlite:///{tmp_path}/second.db"
    assert tracker.runs() == known_runs(opened) == {trial("plain", 0).id: run.info.run_id}


def test_a_driver_killed_between_ledger_and_tracker_leaves_no_run_open(store, study, opened):
    ledger, tracker = Ledger(opened), MlflowTracker(study, opened)
    for observer in (ledger, tracker):
        observer.trial_started(trial())
    ledger.trial_failed(trial(), Failure("diverged", "loss is nan"))
    tracker.close()
    MlflowTracker(study, opened).flush()
    run = tracked(store)["plain · seed 0"]
    assert (run.info.status, run.data.tags["advlora.failure"]) == ("FAILED", "diverged")


def test_the_conclusion_is_in_the_runs_it_is_about(store, study, opened, tmp_path):
    tracker = MlflowTracker(study, opened)
    scores = {("plain", 0): 0.3, ("plain", 1): 0.5, ("wide", 0): 0.6, ("wide", 1): 0.8}
    for (arm, seed), robust in scores.items():
        play([Ledger(opened), tracker], trial(arm, seed), robust)
    report, figure = tmp_path / "report.html", tmp_path / "effects.png"
    report.write_text("report")
    figure.write_bytes(b"figure")
    found = summary(study, opened, tracker)
    tracker.conclude(found, [report, figure])
    runs = tracked(store)
    assert runs["wide"].data.metrics[f"mean/{VAL_ROBUST}"] == pytest.approx(0.7)
    assert runs["wide"].data.metrics[f"sd/{VAL_ROBUST}"] == pytest.approx(0.1414, abs=1e-4)
    assert runs["wide"].data.metrics[f"n/{VAL_ROBUST}"] == 2
    low, high = (runs["wide"].data.metrics[f"{end}/{VAL_ROBUST}"] for end in ("low", "high"))
    assert low < 0.7 < high
    top = runs["parts"].data
    assert top.metrics["count/done"] == 4
    assert top.metrics[f"best/{VAL_ROBUST}"] == 0.6
    assert top.metrics[f"comparison/wide/{TEST_ROBUST}"] == pytest.approx(0.3)
    assert top.tags[f"advlora.verdict.comparison/wide/{TEST_ROBUST}"] == "unresolved"
    best = runs["wide · seed 0"]
    assert (top.tags["advlora.best_arm"], top.tags["advlora.best_trial"], top.tags["advlora.best_run"]) == (
        "wide",
        trial("wide", 0).id,
        best.info.run_id,
    )
    assert [name for name, run in runs.items() if "advlora.best" in run.data.tags] == ["wide · seed 0"]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert artefacts(store, runs["parts"]) == {"report.html", "figures"}
    assert artefacts(store, runs["parts"], "figures") == {"figures/effects.png"}


def test_concluding_again_moves_the_mark_of_the_best_and_repeats_no_point(store, study, opened):
    tracker = MlflowTracker(study, opened)
    for seed in (0, 1):
        play([Ledger(opened), tracker], trial("plain", seed), 0.3)
    tracker.conclude(summary(study, opened, tracker), [])
    runs = tracked(store)
    assert "advlora.best" in runs["plain · seed 0"].data.tags
    assert runs["parts"].info.status == "FAILED", "trials are missing"

    tracker = MlflowTracker(study, opened)
    for seed in (0, 1):
        play([Ledger(opened), tracker], trial("wide", seed), 0.6)
    assert tracked(store)["parts"].info.status == "RUNNING"
    for _ in range(2):
        tracker.conclude(summary(study, opened, tracker), [])
    runs = tracked(store)
    assert [name for name, run in runs.items() if "advlora.best" in run.data.tags] == ["wide · seed 0"]
    assert runs["parts"].info.status == "FINISHED"
    points = open_store(store).get_metric_history(runs["plain"].info.run_id, f"mean/{VAL_ROBUST}")
    assert len(points) == 1


def test_the_conclusion_of_a_sweep_names_its_best_trial(store, tmp_path):
    study = sweep()
    opened = folder(tmp_path / "study", study)
    tracker = MlflowTracker(study, opened)
    for rank, robust in ((1, 0.2), (2, 0.6), (3, 0.4)):
        play([Ledger(opened), tracker], factory(study).trial("search", 0, {"adapter.rank": rank}, "search"), robust)
    tracker.conclude(summary(study, opened, tracker), [])
    runs = tracked(store)
    assert runs["search"].data.tags["advlora.best_run"] == runs["rank=2"].info.run_id
    assert runs["search"].info.status == "FINISHED"
    assert "trial 2" in runs["search"].data.tags["mlflow.note.content"]


def test_names_become_legal_for_mlflow():
    assert metric_name("effect/low rank x α=1/val/robust_r1:8_255") == "effect/low rank x α_1/val/robust_r1:8_255"
    assert metric_name("/a//b@2") == "a/b_2"


def test_names_that_would_become_one_are_kept_apart():
    names = metric_names(["effect/a + b", "effect/a & b", "effect/a"])
    assert names["effect/a"] == "effect/a"
    assert len(set(names.values())) == 3
    assert all(name == metric_name(name) for name in names.values())
    assert metric_names(["x" * 300 + "1", "x" * 300 + "2"]).keys() == {"x" * 300 + "1", "x" * 300 + "2"}
    assert len(set(metric_names(["x" * 300 + "1", "x" * 300 + "2"]).values())) == 2
