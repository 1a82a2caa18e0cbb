"""The method on a GPU: its numbers beside those of the CPU, its repetitions, its costs."""

from __future__ import annotations

import pytest
import torch

from advlora.attacks import withstands
from advlora.config import DataConfig, ModelConfig, TrialConfig
from advlora.config.evaluation_attacks import ApgdCe, ApgdT, Di, FabT, Noise, Pgd, Square
from advlora.evaluation.evaluator import Evaluator
from advlora.evaluation.zero_shot import ZeroShotClassifier
from advlora.models import Preprocessing
from advlora.numerics import computing
from advlora.randomness import Streams
from advlora.training.trainer import fine_tune
from tests.advlora.short_trials import evaluation, numbers, trial

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
ON_A_GPU = {"resources.gpus_per_worker": 1}
SAME_LOSS = 2e-3
"""Largest relative difference of a training loss between the devices: other kernels round otherwise."""
FLIPPED = 2
"""Most images of 64 whose fate may be another on the other device."""
ATTACKS = [
    Pgd(steps=5),
    Pgd(steps=5, norm="l2"),
    ApgdCe(steps=10),
    ApgdT(steps=5, targets=2),
    FabT(steps=5, targets=2),
    Square(steps=50),
    Square(steps=50, norm="l2"),
    Di(steps=5, source="model"),
    Noise(),
]
PRECISIONS = ["fp32", "tf32", "bf16"]


def trained(values, protocol, bench, device, **options):
    return list(fine_tune(trial({**ON_A_GPU, **values}), protocol, bench=bench, device=device, **options))


def classifier(bench, device) -> ZeroShotClassifier:
    features = bench.class_features(ModelConfig(), DataConfig()).to(device)
    return ZeroShotClassifier(bench.model(ModelConfig()).to(device), features)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.kind}-{attack.norm}")
def test_an_attack_breaks_the_same_images_on_both_devices(attack, bench, cuda):
    """Its random numbers are the same on both, so only rounding tells them apart."""
    data = bench.split(DataConfig(), "val", Preprocessing(28), 64)
    radius = 8 / 255 if attack.norm == "linf" else 1.0
    kept = {}
    for device in (CPU, cuda):
        images, labels = data.images.to(device).float() / 255, data.labels.to(device)
        with computing():
            streams = Streams.of(0, "gpu", samples=torch.arange(64, device=device))
            kept[device] = withstands(classifier(bench, device), images, labels, attack, radius, streams).cpu()
    assert (kept[CPU] != kept[cuda]).sum() <= FLIPPED


def test_logits_in_true_float32_are_those_of_the_cpu(bench, cuda):
    images = bench.split(DataConfig(), "val", Preprocessing(28), 64).images.float() / 255
    with computing(), torch.no_grad():
        expected, found = classifier(bench, CPU)(images), classifier(bench, cuda)(images.to(cuda)).cpu()
    assert torch.allclose(found, expected, atol=1e-3 * float(expected.std()))


def test_tf32_rounds_and_true_float32_does_not(cuda):
    if torch.cuda.get_device_capability()[0] < 8:
        pytest.skip("needs a GPU with TF32: Ampere or later")
    one = torch.full((256, 256), 1 + 2.0**-13, device=cuda)
    identity = torch.eye(256, device=cuda)
    filters = identity.view(256, 256, 1, 1)
    for precision, exact in (("fp32", True), ("tf32", False)):
        with computing(precision):
            assert bool((one @ identity == one).all()) == exact
            images = one[:1, :, None, None].expand(1, 256, 16, 16).contiguous()
            assert bool((torch.conv2d(images, filters) == images).all()) == exact


def test_an_evaluation_agrees_with_that_of_the_cpu(brief, bench, cuda):
    config, found = TrialConfig(), {}
    for device in (CPU, cuda):
        model = bench.model(config.model).to(device)
        evaluator = Evaluator(model, config.data, brief, bench, config.model, changed=False, device=device)
        found[device] = evaluator.measure("val", curve=False).metrics
    for name, value in found[CPU].items():
        assert found[cuda][name] == pytest.approx(value, abs=FLIPPED / 64)


@pytest.mark.parametrize("adapter", ["lora", "dora", "full"])
def test_a_training_in_fp32_agrees_with_that_of_the_cpu(adapter, brief, bench, cuda):
    values = {"adapter.kind": adapter}
    cpu, gpu = (trained(values, brief, bench, device)[-1].metrics for device in (CPU, cuda))
    assert gpu["train/loss"] == pytest.approx(cpu["train/loss"], rel=SAME_LOSS)
    assert gpu["cost/flops"] == pytest.approx(cpu["cost/flops"], rel=0.01)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("loss", ["cross_entropy", "trades", "fare"])
def test_a_training_repeats_to_the_bit(precision, loss, brief, bench, cuda):
    values = {"precision": precision, "loss.kind": loss, "adapter.dropout": 0.1}
    first, second = (trained(values, brief, bench, cuda) for _ in range(2))
    assert [numbers(report) for report in first] == [numbers(report) for report in second]
    for name, tensor in first[-1].state["adapter"].items():
        assert torch.equal(tensor, second[-1].state["adapter"][name]), name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_training_goes_on_exactly(precision, brief, bench, cuda):
    values = {"precision": precision, "adapter.dropout": 0.1}
    whole = trained(values, brief, bench, cuda)
    rest = trained(values, brief, bench, cuda, state=whole[0].state)
    assert [numbers(report) for report in rest] == [numbers(report) for report in whole[1:]]


def test_faster_kernels_train_as_well(brief, bench, cuda):
    strict, fast = (trained({"deterministic": flag}, brief, bench, cuda)[-1].metrics for flag in (True, False))
    assert fast["train/loss"] == pytest.approx(strict["train/loss"], rel=SAME_LOSS)


@pytest.mark.parametrize("loss", ["contrastive", "cleanclip", "par"])
def test_losses_on_captions_have_deterministic_kernels(loss, bench, cuda):
    values = {"data.name": "emoji", "loss.kind": loss, "adapter.kind": "full", "optimiser.epochs": 1}
    protocol = evaluation(attacks=[{"kind": "set-level", "steps": 2}], samples={"val": 8, "test": 8}, curve=())
    first, second = (trained(values, protocol, bench, cuda)[-1] for _ in range(2))
    assert numbers(first) == numbers(second)


def test_peak_memory_is_that_of_this_training_on_the_gpu(brief, bench, cuda):
    ballast = torch.empty(512 * 2**18, device=cuda)  # 512 MB that are gone before the training
    del ballast
    torch.cuda.empty_cache()
    small, large = (
        trained({"optimiser.batch_size": size, "optimiser.epochs": 1}, brief, bench, cuda)[-1] for size in (8, 48)
    )
    peaks = [report.metrics["cost/peak_memory_mb"] for report in (small, large)]
    assert 0 < peaks[0] < peaks[1] < 512
