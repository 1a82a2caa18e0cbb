from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from rich.text import Text

from advlora.adapters import load_trained
from advlora.check import forget_files
from advlora.config import DataConfig, TransferConfig, TrialConfig, parse
from advlora.errors import UserError
from advlora.evaluation.classification import Classification
from advlora.evaluation.zero_shot import ZeroShotClassifier
from advlora.metrics import Metric
from advlora.models import Preprocessing
from advlora.training.trainer import fine_tune
from advlora.training.workbench import Workbench
from advlora_platform.execution.states import rebuild, save_state
from advlora_platform.lowrank.changes import measure_change
from advlora_platform.lowrank.trials import Trained
from advlora_platform.measure import Evaluation, Subject, protocol_hash, read_protocol, record_file
from advlora_platform.measure.tracked import tracked
from advlora_platform.report.measurements import record_text
from tests.advlora.data.class_folders import class_folders
from tests.advlora.tiny_transformers import written

pytestmark = pytest.mark.unit

ROBUST, WEAKER = str(Metric.robust("test", 8 / 255)), str(Metric.robust("test", 4 / 255))


def share(digits: str) -> float:
    return digits.count("1") / len(digits)


@pytest.fixture(scope="module")
def record(trained, protocol):
    return Evaluation.prepare(str(trained), "fashion-mnist", "test", protocol()).measure()


def test_the_metrics_are_those_that_a_trial_would_have(record, trained, protocol):
    model, base = load_trained(trained)
    bench, evaluation = Workbench(), read_protocol(protocol())
    classifier = ZeroShotClassifier(model, bench.class_features(base, DataConfig()))
    data, epsilons = bench.split(DataConfig(), "test", Preprocessing(28), 16), (evaluation.epsilon, *evaluation.curve)
    outcomes = Classification(classifier, evaluation).outcomes(data, epsilons)
    expected = outcomes.metrics("test") | outcomes.mean_per_class("test", data.labels)
    assert {name: value for name, value in record.metrics.items() if name.startswith("test/")} == expected


def test_trainer_record_and_study_of_ranks_give_the_same_number_for_the_same_model(protocol, tmp_path):
    values = {
        "data": {"train_samples": 32},
        "adapter": {"kind": "full"},
        "optimiser": {"epochs": 1, "batch_size": 32},
        "attack": {"steps": 1},
    }
    config, evaluation = parse(TrialConfig, values), read_protocol(protocol(guards={"enabled": False}))
    *_, report = fine_tune(config, evaluation, bench=Workbench(), test=True)
    save_state(tmp_path, report.state)
    adapted, _ = rebuild(config, tmp_path)
    subject = Subject(adapted.model, "trained", "trial", base=config.model)
    measured = Evaluation(subject, config.data, "test", evaluation, "tiny").measure().metrics
    assert measured == {name: value for name, value in report.metrics.items() if name.startswith("test/")}
    change = measure_change(Trained("full", config, report.metrics, tmp_path), evaluation, (0,), Workbench())
    assert change.whole == measured[ROBUST]


def test_every_number_is_the_mean_of_its_examples(record):
    assert share(record.examples.clean) == record.metrics[str(Metric.clean("test"))]
    for epsilon, metric in (("8_255", ROBUST), ("4_255", WEAKER)):
        assert share(record.examples.robust[epsilon]) == record.metrics[metric]
        assert record.accuracies[epsilon]["worst case"] == record.metrics[metric]
        assert min(record.accuracies[epsilon].values()) == record.metrics[metric]
        assert set(record.examples.attacks[epsilon]) == {"pgd-2", "pgd-2 margin"}
        assert share(record.examples.attacks[epsilon]["pgd-2"]) <= record.accuracies[epsilon]["pgd-2"]
    assert record.curve == (
        (0.0, record.metrics[str(Metric.clean("test"))]),
        (4 / 255, record.metrics[WEAKER]),
        (8 / 255, record.metrics[ROBUST]),
    )


def test_it_says_what_was_measured_on_what_and_how(record, protocol):
    assert (record.model.kind, record.model.base) == ("trained", "tiny-clip")
    assert (record.data.name, record.data.split, record.data.samples) == ("fashion-mnist", "test", 16)
    assert record.protocol_name == "tiny"
    assert record.protocol_hash == protocol_hash(read_protocol(protocol()))
    assert record.protocol_text.startswith("worst case of PGD-2")
    assert record.seconds > 0
    assert {"code_version", "versions", "commit"} <= record.provenance.keys()


def test_no_path_of_this_machine_is_in_it(record, trained):
    assert str(trained.parent) not in json.dumps(record.model_dump(mode="json"))


def test_the_checks_are_run_with_a_transfer_from_the_base(record):
    names = {guard.name for guard in record.guards}
    assert {"gradients", "black_box", "monotone", "transfer"} < names
    failed = [guard.name for guard in record.guards if not guard.ok]
    assert record.metrics["guard/unreliable"] == len(failed)
    assert (record.unreliable is None) == (not failed)


def test_an_examination_too_weak_to_be_believed_is_called_so(protocol):
    guards = {"samples": 16, "queries": 20, "steps": 5}
    weak = protocol(attacks=[{"kind": "noise", "restarts": 1}], curve=[], guards=guards)
    found = Evaluation.prepare("tiny-clip", "fashion-mnist", "val", weak).measure()
    assert found.unreliable is not None
    assert "transfer" not in {guard.name for guard in found.guards}  # the pretrained model from itself


def test_checks_can_be_left_out(protocol):
    found = Evaluation.prepare("tiny-clip", "fashion-mnist", "val", protocol(guards={"enabled": False})).measure()
    assert found.guards == ()
    assert found.unreliable is None
    assert "guard/unreliable" not in found.metrics


def test_transfer_attacks_need_the_pretrained_model(trained, protocol, tmp_path):
    transfer = protocol(attacks=[{"kind": "di", "steps": 2}], curve=[], guards={"enabled": False})
    lone = str(shutil.copytree(trained / "merged", tmp_path / "lone"))
    with pytest.raises(UserError, match=r"attacks from the pretrained model, .*; name it with --base NAME"):
        Evaluation.prepare(lone, "fashion-mnist", "val", transfer)
    found = Evaluation.prepare(lone, "fashion-mnist", "val", transfer, "tiny-clip").measure()
    assert found.model.base == "tiny-clip"
    assert found.accuracies["8_255"]["di-2"] == found.metrics[str(Metric.robust("val", 8 / 255))]


def test_retrieval_has_metrics_and_no_outcomes_of_single_examples(protocol, tmp_path):
    source, entries = np.random.default_rng(0), []
    for number in range(12):
        Image.fromarray(source.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / f"{number}.png")
        sentences = [{"raw": f"a {'red ' * number}cat"}]
        split = ("train", "val", "test")[number % 3]
        entries.append({"filename": f"{number}.png", "split": split, "sentences": sentences})
    (tmp_path / "dataset_tiny.json").write_text(json.dumps({"dataset": "tiny", "images": entries}))
    written("clip", tmp_path / "model")
    found = Evaluation.prepare(str(tmp_path / "model"), str(tmp_path), "test", protocol()).measure()
    assert found.examples is None
    assert (found.data.name, found.data.samples) == ("tiny", 4)
    assert {"test/clean_tr_r1", "test/robust_ir_r5:8_255"} < found.metrics.keys()
    assert [radius for radius, _ in found.curve] == [0.0, 4 / 255, 8 / 255]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tiny-clip", "absent", "test", "quick"), "'absent' is neither"),
        (("tiny-clip", "fashion-mnist", "test", "qick"), "did you mean 'quick'"),
        (("tiny-clip", "fashion-mnist", "test", "absent.yaml"), "absent.yaml"),
    ],
)
def test_what_is_not_there_is_said_before_anything_is_computed(arguments, said):
    with pytest.raises(UserError, match=said):
        Evaluation.prepare(*arguments)


def test_further_sets_are_measured_and_identified(trained, protocol, tmp_path):
    mine = class_folders(tmp_path / "mine", ["bag", "boot", "coat"])
    transfer = parse(TransferConfig, {"root": str(tmp_path), "sets": ["mine", "fashion-mnist"]})
    small = protocol(guards={"enabled": False}, curve=[])
    found = Evaluation.prepare(str(trained), "fashion-mnist", "test", small, transfer=transfer).measure()
    own, embedded = found.transfer["mine"], found.transfer["fashion-mnist"]
    assert (own.samples, own.asked, own.classes_seen, own.split) == (6, 16, 3, "test")
    assert embedded == found.data
    for name in ("clean_r1", "robust_r1:8_255"):
        values = [found.metrics[f"test/transfer/{each}/{name}"] for each in ("mine", "fashion-mnist")]
        assert values[1] == found.metrics[f"test/{name}"]
        assert found.metrics[f"test/transfer/{name}"] == pytest.approx(np.mean(values))
    said = Text.from_markup(record_text(found)).plain
    assert re.search(r"mine +test +6", said)
    assert "mean of the sets" in said
    assert tracked(found).metrics["test/transfer/clean_r1"] == found.metrics["test/transfer/clean_r1"]
    assert record_file(found) != record_file(found.model_copy(update={"transfer": {}}))
    (mine / "test" / "bag" / "0000.png").write_bytes(b"")
    forget_files()
    with pytest.raises(UserError, match=r"transfer set 'mine': .* cannot be read: it is empty"):
        Evaluation.prepare(str(trained), "fashion-mnist", "test", small, transfer=transfer)
