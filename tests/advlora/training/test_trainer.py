from __future__ import annotations

import io
from collections import defaultdict

import pytest
import torch

from advlora.config import DataConfig
from advlora.data.transfer import NamedSet
from advlora.errors import Diverged
from advlora.evaluation.classification import Classification
from advlora.evaluation.zero_shot import ZeroShotClassifier
from advlora.models import Preprocessing
from advlora.training.trainer import restore
from advlora.training.workbench import Workbench
from tests.advlora.short_trials import FINISHED, PROTOCOL, evaluation, numbers, trial

pytestmark = pytest.mark.unit

MIXED = (
    {},
    {"loss.kind": "fare", "data.train_samples": 32},
    {"adapter.kind": "full", "precision": "bf16"},
    {"loss.kind": "contrastive", "adapter.dropout": 0.3, "seed": 5},
    {"optimiser.weight_decay": 0.3, "adapter.kind": "dora"},
    {"optimiser.weight_decay": 0.3, "adapter.loraplus_lr_ratio": 4.0},
)
WATCHED = ("guard/overfitting", "guard/overfitting_gap")
"""One-step training is watched."""
SIZES = ("params/trainable", "params/trainable_fraction")
ADAPTED = ("train/misfit", "train/adaptive_mean", "train/adaptive_min", "train/adaptive_max")
EACH = ("train/loss", *ADAPTED, *SIZES, *WATCHED)
COSTS = ("cost/seconds", "cost/flops", "cost/vision_forwards", "cost/peak_memory_mb")
VAL = tuple(f"val/{name}" for of in ("r1", "mean_per_class") for name in (f"clean_{of}", f"robust_{of}:4_255"))
FINAL = tuple(
    name
    for of in ("r1", "mean_per_class")
    for name in (f"val/robust_{of}:8_255", f"test/clean_{of}", f"test/robust_{of}:4_255", f"test/robust_{of}:8_255")
)


def through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def same_adapter(left, right):
    ours, theirs = left.state["adapter"], right.state["adapter"]
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_further_sets_are_measured_with_the_last_report_alone(run):
    transfer = (NamedSet("again", DataConfig()),)
    first, last = run({"optimiser.epochs": 2, "data.train_samples": 16}, test=True, transfer=transfer)
    assert not [name for name in first.metrics if "transfer" in name]
    own = [name.removeprefix("test/") for name in last.metrics if name.startswith("test/") and "transfer" not in name]
    assert len(own) == 6
    for name in own:
        assert last.metrics[f"test/transfer/again/{name}"] == last.metrics[f"test/{name}"]
        assert last.metrics[f"test/transfer/{name}"] == last.metrics[f"test/{name}"]
    assert last.examples["test/transfer/again/clean_r1"].equal(last.examples["test/clean_r1"])


def test_an_epoch_is_reported_with_every_metric_under_its_name(finished):
    assert [(report.epoch, report.epochs, report.final) for report in finished] == [
        (1, 3, False),
        (2, 3, False),
        (3, 3, True),
    ]
    for report in finished[:-1]:
        assert set(report.metrics) == {*EACH, *COSTS, *VAL}
    assert set(finished[-1].metrics) == {*EACH, *COSTS, *VAL, *FINAL}
    assert finished[-1].metrics["train/loss"] < finished[0].metrics["train/loss"]
    assert finished[-1].metrics["train/misfit"] > finished[0].metrics["train/misfit"] > 0


def test_numbers_depend_on_the_configuration_alone(run):
    def all_of(trials, bench):
        return {number: run(MIXED[number] | {"optimiser.epochs": 1}, bench=bench)[0] for number in trials}

    bench, order = Workbench(), range(len(MIXED))
    first = all_of(order, bench)
    torch.manual_seed(11)
    again = all_of(reversed(order), bench)
    for number in order:
        assert numbers(again[number]) == numbers(first[number])
        assert same_adapter(again[number], first[number])
    assert len({report.metrics["train/loss"] for report in first.values()}) == len(MIXED)


def test_nothing_is_drawn_from_the_global_generator(run):
    before = torch.get_rng_state()
    run({"adapter.dropout": 0.5, "optimiser.epochs": 1})
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("done", [1, 2, 3])
def test_training_continues_from_any_epoch_to_the_same_bits(run, finished, done):
    continued = run(FINISHED, state=through_a_file(finished[done - 1].state), test=True)
    expected = finished[done:] or finished[-1:]
    assert [report.epoch for report in continued] == [report.epoch for report in expected]
    for ours, theirs in zip(continued, expected, strict=True):
        assert numbers(ours) == numbers(theirs)
        assert same_adapter(ours, theirs)
        assert ours.metrics["cost/seconds"] >= finished[done - 1].metrics["cost/seconds"]


def test_every_adapter_and_loss_continues_to_the_same_bits(run):
    for values in (*MIXED[1:3], *MIXED[4:]):
        whole = run(values | {"optimiser.epochs": 2})
        (last,) = run(values | {"optimiser.epochs": 2}, state=through_a_file(whole[0].state))
        assert numbers(last) == numbers(whole[1])
        assert same_adapter(last, whole[1])


def test_a_state_is_not_used_up_by_going_on_from_it(run, finished):
    state = finished[0].state
    before = through_a_file(state)
    first, second = (run(FINISHED, state=state, test=True) for _ in range(2))
    assert numbers(first[-1]) == numbers(second[-1]) == numbers(finished[-1])
    torch.testing.assert_close(state, before, rtol=0, atol=0)


def test_the_last_state_gives_the_model_back_without_its_optimiser(bench, finished):
    assert finished[-1].state["optimiser"] == {}
    assert finished[0].state["optimiser"]["state"]
    model = restore(trial(FINISHED), bench, finished[-1].state).model
    classes = bench.class_features(trial().model, trial().data)
    data = bench.split(trial().data, "val", model.preprocessing, PROTOCOL.samples.val)
    epsilons = (PROTOCOL.epsilon, *PROTOCOL.curve)
    metrics = Classification(ZeroShotClassifier(model, classes), PROTOCOL).outcomes(data, epsilons).metrics("val")
    assert metrics == {name: finished[-1].metrics[name] for name in metrics}
    assert not model.training


def test_a_state_of_another_configuration_is_refused(bench, finished):
    with pytest.raises(ValueError, match="does not belong"):
        restore(trial({"adapter.rank": 2}), bench, finished[-1].state)


def test_before_the_first_step_the_model_is_the_pretrained_one(bench):
    pixels = bench.split(trial().data, "val", Preprocessing(28), 16).images.float() / 255
    expected = bench.model(trial().model).encode_images(pixels)
    torch.testing.assert_close(restore(trial(), bench).model.encode_images(pixels), expected, rtol=0, atol=1e-4)


def test_kind_none_is_one_report_on_the_pretrained_model(run, bench):
    (report,) = run({"adapter.kind": "none"}, test=True)
    assert (report.epoch, report.epochs, report.final) == (0, 0, True)
    assert {name: report.metrics[name] for name in (*COSTS, *SIZES)} == dict.fromkeys((*COSTS, *SIZES), 0.0)
    assert set(report.metrics) == {*COSTS, *SIZES, *VAL, *FINAL}
    config, model = trial(), bench.model(trial().model)
    data = bench.split(config.data, "val", model.preprocessing, PROTOCOL.samples.val)
    features = torch.nn.functional.normalize(model.encode_images(data.images.float() / 255), dim=-1)
    right = (features @ bench.class_features(config.model, config.data).T).argmax(1) == data.labels
    assert report.metrics["val/clean_r1"] == pytest.approx(right.double().mean().item())
    (again,) = run({"adapter.kind": "none"}, state=through_a_file(report.state), test=True)
    assert numbers(again) == numbers(report)


def test_adversarial_training_withstands_what_clean_training_does_not(run):
    protocol = evaluation(epsilon=8 / 255, curve=(), interval=0, samples={"val": 100, "test": 1})
    budget = {"data.train_samples": 96, "optimiser.epochs": 2, "optimiser.learning_rate": 5e-3}
    clean, robust = (run({"attack.kind": kind, **budget}, protocol)[-1].metrics for kind in ("none", "pgd"))
    assert robust["val/robust_r1:8_255"] > clean["val/robust_r1:8_255"] + 0.05
    assert robust["val/clean_r1"] > 0.6


def test_test_is_measured_only_when_asked(run, finished):
    (report,) = run(FINISHED, state=finished[-1].state)
    assert not any(name.startswith("test/") for name in report.metrics)
    assert numbers(report) == {name: value for name, value in numbers(finished[-1]).items() if "test/" not in name}


def test_what_the_accuracies_were_reduced_from_comes_with_the_last_report_of_a_trial_that_is_measured_on_test(
    run, finished
):
    assert [report.examples == {} for report in finished] == [True] * (len(finished) - 1) + [False]
    examples, metrics = finished[-1].examples, finished[-1].metrics
    for name in ("val/clean_r1", "test/clean_r1", "val/robust_r1:8_255", "test/robust_r1:8_255"):
        assert examples[name].double().mean().item() == pytest.approx(metrics[name])
    assert run(FINISHED)[-1].examples == {}


@pytest.mark.parametrize(("interval", "due"), [(0, [3]), (2, [2, 3])])
def test_val_is_measured_at_intervals_and_at_the_end_and_changes_nothing(run, finished, interval, due):
    reports = run(FINISHED, evaluation(interval=interval), test=True)
    assert [report.epoch for report in reports if "val/clean_r1" in report.metrics] == due
    assert numbers(reports[-1]) == numbers(finished[-1])


def test_a_training_that_explodes_is_said_so(run):
    with pytest.raises(Diverged, match=r"epoch 1, step 2"):
        run({"optimiser.learning_rate": 1e30, "optimiser.warmup": 0})


def test_a_training_that_explodes_in_its_very_last_step_is_said_so(run):
    with pytest.raises(Diverged, match="not finite after epoch 1"):
        run({"optimiser.learning_rate": 1e30, "optimiser.warmup": 0, "optimiser.epochs": 1, "data.train_samples": 16})


class Listening(Workbench):
    """Its models tell at which batch size they computed in which type."""

    def __init__(self):
        super().__init__()
        self.heard = defaultdict(set)

    def model(self, config):
        model = super().model(config)
        model.vision.register_forward_hook(lambda _, __, features: self.heard[len(features)].add(features.dtype))
        return model


def test_bf16_is_for_training_and_evaluation_is_fp32(run):
    bench, size = Listening(), trial().optimiser.batch_size
    (report,) = run({"precision": "bf16", "optimiser.epochs": 1}, bench=bench)
    assert torch.bfloat16 in bench.heard.pop(size)
    assert set().union(*bench.heard.values()) == {torch.float32}
    assert bench.heard[PROTOCOL.samples.val]
    exact, trained = run({"optimiser.epochs": 1})[0], report.metrics
    assert trained["train/loss"] != exact.metrics["train/loss"]
    assert trained["train/loss"] == pytest.approx(exact.metrics["train/loss"], rel=0.02)
    assert all(
        tensor.dtype == torch.float32 for tensor in report.state["adapter"].values() if tensor.is_floating_point()
    )


def test_the_batch_size_of_the_examination_does_not_matter(run, finished):
    (report,) = run(FINISHED, evaluation(batch_size=7), state=finished[-1].state, test=True)
    one_example = 1.01 / PROTOCOL.samples.test  # rounding differs with the size of a batch and may tip one over
    assert numbers(report) == pytest.approx(numbers(finished[-1]), abs=one_example)


def test_the_final_model_is_checked_where_the_protocol_asks_for_it(run):
    guarded = evaluation(guards={"samples": 16, "queries": 5, "tolerance": 0.5})
    reports = run({"optimiser.epochs": 2}, protocol=guarded)
    assert not any("guard/monotone" in report.metrics for report in reports[:-1])
    final = reports[-1]
    assert {"guard/monotone", "guard/transfer", "guard/merged", "guard/black_box"} <= final.metrics.keys()
    assert (final.metrics["guard/unreliable"], final.unreliable) == (0.0, "")


def test_a_model_that_hides_its_gradients_is_called_unreliable(run):
    strict = evaluation(guards={"samples": 16, "queries": 5, "tolerance": 0.0, "large_epsilon": "1/255"})
    final = run({"optimiser.epochs": 1}, protocol=strict)[-1]
    assert final.metrics["guard/unreliable"] >= 1
    assert "large_epsilon: accuracy at radius" in final.unreliable


def test_what_cannot_be_merged_is_checked_without_its_merged_weights(run):
    lora = {"adapter.init": "gaussian", "adapter.alignment.enabled": False, "adapter.adaptive.enabled": False}
    guarded = evaluation(guards={"samples": 8, "queries": 2, "steps": 2})
    final = run({**lora, "adapter.norm_before": True, "optimiser.epochs": 1}, protocol=guarded)[-1]
    assert "guard/monotone" in final.metrics
    assert "guard/merged" not in final.metrics
