from __future__ import annotations

import mmap
import sys
import time

import pytest
import torch

from advlora.training.cost import Meter, evaluation_forwards, step_forwards, training_forwards
from advlora.training.workbench import Workbench
from tests.advlora.short_trials import evaluation, trial

pytestmark = pytest.mark.unit

CPU = torch.device("cpu")
PLAIN = {"attack.kind": "pgd", "attack.steps": 3}


@pytest.mark.parametrize(
    ("values", "forwards"),
    [
        ({"adapter.kind": "full", **PLAIN}, 2 * 3 + 3),
        ({"adapter.kind": "lora", **PLAIN}, 2 * 3 + 2),
        ({"adapter.kind": "linear_probe", **PLAIN}, 2 * 3 + 1),
        ({"adapter.kind": "none", **PLAIN}, 0),
        ({"attack.kind": "none"}, 2),
        ({"attack.kind": "fgsm_rs"}, 2 + 2),
        ({"attack.kind": "n_fgsm"}, 2 + 2),
    ],
)
def test_a_step_costs_what_the_formula_says(values, forwards):
    assert step_forwards(trial(values)) == forwards
    assert training_forwards(trial(values | {"optimiser.epochs": 4}), 50) == 50 * 4 * forwards


def test_fare_costs_one_more_pass_over_the_clean_images():
    fare = {"loss.kind": "fare", "optimiser.epochs": 2}
    assert training_forwards(trial(fare), 30) == training_forwards(trial({"optimiser.epochs": 2}), 30) + 30
    assert training_forwards(trial(fare | {"adapter.kind": "none"}), 30) == 0


@pytest.mark.parametrize("values", [{"loss.kind": "fare"}, {"adapter.kind": "linear_probe", **PLAIN}])
def test_a_trial_reports_the_cost_that_was_planned(run, values):
    short = {"data.train_samples": 20, "optimiser.epochs": 2, **values}
    reports = run(short, evaluation(interval=0, samples={"val": 8, "test": 8}))
    spent = [report.metrics["cost/vision_forwards"] for report in reports]
    assert spent[-1] == training_forwards(trial(short), 20)
    assert spent[0] == training_forwards(trial(short | {"optimiser.epochs": 1}), 20)
    seconds = [report.metrics["cost/seconds"] for report in reports]
    assert 0 < seconds[0] < seconds[1]
    assert reports[-1].metrics["cost/peak_memory_mb"] > 0


class Counting(Workbench):
    """Counts the images that pass the vision towers of its models."""

    passes = 0

    def model(self, config):
        model = super().model(config)
        model.vision.register_forward_hook(self._forward)
        return model

    def _forward(self, _, __, features):
        self.passes += len(features)
        if features.requires_grad:
            features.register_hook(self._backward)

    def _backward(self, gradient):
        self.passes += len(gradient)


def test_the_formula_counts_what_really_passes_the_tower(run):
    bench = Counting()
    short = {"data.train_samples": 20, "optimiser.epochs": 2, "loss.kind": "fare", **PLAIN}
    run(short, evaluation(interval=0, samples={"val": 1, "test": 1}, attacks=({"steps": 1},), curve=()), bench=bench)
    # Operations are counted in a step of 16 images, and in one pass, for both epochs.
    counted = 16 * step_forwards(trial(short)) + 1
    # Beside it, the evaluation of one image, and a look at one image after each of the two epochs.
    assert 1 <= bench.passes - training_forwards(trial(short), 20) - counted <= 6


def test_an_attack_on_captions_costs_a_gradient_per_scale():
    attacks = {"kind": "set-level", "steps": 5, "restarts": 2}, {"kind": "sga", "words": "bert", "steps": 5}
    single = {"kind": "co-attack", "words": "bert", "steps": 5}
    costs = [evaluation_forwards(evaluation(attacks=[attack], curve=()), "val") for attack in (*attacks, single)]
    samples = evaluation().samples.val
    assert costs == [samples * (1 + passes) for passes in (2 * (2 * 5 * 5 + 1), 2 * 5 * 5 + 2, 2 * 5 + 2)]


@pytest.mark.parametrize(("interval", "during"), [(0, 0), (1, 4), (2, 2), (3, 1), (5, 0), (9, 0)])
def test_examinations_during_training_are_counted_without_the_curve(interval, during):
    attacks = ({"steps": 10}, {"steps": 20, "restarts": 3})
    protocol = evaluation(attacks=attacks, curve=(0.1, 0.2), samples={"val": 7, "test": 9}, interval=interval)
    one = 21 + 3 * 41
    assert evaluation_forwards(protocol, "val") == 7 * (1 + 3 * one)
    assert evaluation_forwards(protocol, "test") == 9 * (1 + 3 * one)
    assert evaluation_forwards(protocol, "val", epochs=5) == 7 * (1 + 3 * one) + during * 7 * (1 + one)


def test_a_meter_adds_up_and_goes_on_from_its_state():
    meter = Meter(CPU)
    assert set(meter.metrics().values()) == {0.0}
    for _ in range(2):
        with meter.running():
            time.sleep(0.02)
    time.sleep(0.2)
    meter.forwards += 8
    assert 0.04 <= meter.seconds < 0.2
    later = Meter(CPU, meter.state())
    assert later.metrics() == meter.metrics()
    assert later.metrics()["cost/vision_forwards"] == 8
    with later.running():
        time.sleep(0.01)
    assert later.seconds > meter.seconds


@pytest.mark.skipif(sys.platform != "linux", reason="the peak can be restarted on Linux only")
def test_the_peak_is_that_of_the_block_and_not_of_what_ran_before():
    def touch(megabytes):
        with mmap.mmap(-1, megabytes * 2**20) as area:
            area.write(b"x" * len(area))

    large, small = Meter(CPU), Meter(CPU)
    with large.running():
        touch(150)
    with small.running():
        touch(1)
    assert large.peak > small.peak + 100
    with large.running():
        touch(1)
    assert large.peak > small.peak + 100
