"""The MLflow run of a trial as a reference to its model: real store, real trial."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from advlora.config import parse
from advlora.errors import UserError
from advlora.training.trainer import fine_tune
from advlora.training.workbench import Workbench
from advlora_platform.execution.states import save_state
from advlora_platform.measure import Evaluation, load_subject, protocol_hash, read_protocol
from advlora_platform.measure.tracked import tracked
from advlora_platform.study.ablation import AblationStudy
from advlora_platform.study.folder import StudyFolder, read_json, write_json
from advlora_platform.study.ledger import Ledger
from advlora_platform.study.trials import Trial, TrialFactory
from advlora_platform.tracking import EvaluationLog, MlflowTracker
from advlora_platform.tracking.store import open_store

pytestmark = pytest.mark.integration

BASE = {
    "data": {"train_samples": 64},
    "adapter": {"rank": 2, "target": "attention-qv"},
    "optimiser": {"batch_size": 32, "epochs": 1},
    "attack": {"steps": 1},
}


@dataclass
class Finished:
    """A study with one trial that a store knows as finished."""

    folder: StudyFolder
    trial: Trial
    metrics: dict[str, float]
    run: str
    study_run: str


@pytest.fixture
def finished(store, protocol) -> Finished:
    """The trial, in `runs/parts` of the working folder."""
    evaluation = read_protocol(protocol(guards={"enabled": False}))
    content = {"name": "parts", "base": BASE, "protocol": evaluation.model_dump(), "seeds": [0], "arms": {"low": {}}}
    study, folder = parse(AblationStudy, content), StudyFolder(Path("runs/parts").absolute())
    write_json(folder.identity, {"study_id": "a1b2c3", "name": "parts", "kind": "ablation"})
    trial = TrialFactory(BASE, evaluation, "data").trial("low", 0, {}, "ablate")
    observers = [Ledger(folder), MlflowTracker(study, folder)]
    for observer in observers:
        observer.trial_started(trial)
    *_, report = fine_tune(trial.config, evaluation, bench=Workbench(), test=True)
    save_state(folder.trial(trial.id), report.state)
    for observer in observers:
        observer.trial_finished(trial, report.metrics, False)
    tracker = observers[1]
    return Finished(folder, trial, report.metrics, tracker.runs()[trial.id], read_json(folder.tracking)["study_run"])


def refused(reference: str, study: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        load_subject(reference, study=study)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


def test_a_run_is_measured_as_its_trial_was_and_logged_beside_it(finished, store, protocol, tmp_path):
    evaluation = Evaluation.prepare(finished.run, "fashion-mnist", "test", protocol(guards={"enabled": False}))
    record = evaluation.measure()
    test = {name: value for name, value in finished.metrics.items() if name.startswith("test/")}
    assert record.metrics == test
    assert record.model.name == "parts/low · seed 0"
    assert (record.model.run, record.model.trial_id, record.model.base) == (
        finished.run,
        finished.trial.id,
        "tiny-clip",
    )
    assert evaluation.subject.merges
    assert evaluation.subject.changed, "attacks from its base are transfers"

    (tmp_path / "record.json").write_text("{}")
    run_id = EvaluationLog().log(tracked(record), tmp_path / "record.json")
    client = open_store(store)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["advlora.kind"] == "evaluation"
    assert run.data.tags["advlora.evaluated_run"] == finished.run
    assert run.data.tags["advlora.protocol_hash"] == protocol_hash(evaluation.protocol) == record.protocol_hash
    assert run.data.metrics["test/robust_r1:8_255"] == record.metrics["test/robust_r1:8_255"]
    assert run.data.metrics["attack/pgd-2:8_255"] == record.accuracies["8_255"]["pgd-2"]
    assert run.data.params["data.samples"] == "16"
    assert [entry.path for entry in client.list_artifacts(run_id)] == ["record.json"]
    assert client.get_experiment(run.info.experiment_id).name == "evaluations"
    again = EvaluationLog().log(tracked(record), tmp_path / "record.json")
    assert client.get_run(again).info.experiment_id == run.info.experiment_id


def test_the_study_is_found_elsewhere_if_it_is_named(finished, tmp_path):
    moved = shutil.move(finished.folder.path, tmp_path / "elsewhere")
    assert "study 'parts'" in refused(finished.run)
    assert "is not in runs/; name it with --study FOLDER, or train again" in refused(finished.run)
    assert load_subject(finished.run, study=Path(moved)).trial_id == finished.trial.id
    other = tmp_path / "other"
    write_json(StudyFolder(other).identity, {"study_id": "another"})
    assert f"is not in {other}" in refused(finished.run, other)


def test_what_is_no_finished_trial_is_one_sentence(finished):
    assert "has no run '" in refused("0" * 32)
    assert "is no trial but: study" in refused(finished.study_run)
    (finished.folder.trial(finished.trial.id) / "state.pt").unlink()
    assert "was removed" in refused(finished.run)
    Ledger(finished.folder).trial_started(finished.trial)
    assert "has not finished" in refused(finished.run)


def test_a_deleted_experiment_is_one_sentence(store):
    client = open_store(store)
    EvaluationLog()
    client.delete_experiment(client.get_experiment_by_name("evaluations").experiment_id)
    with pytest.raises(UserError, match=r"experiment 'evaluations' was deleted in .*, or use --no-track"):
        EvaluationLog()
