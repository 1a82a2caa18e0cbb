from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils import deterministic as uninitialised

import advlora
from advlora.adapters import export
from advlora.config import TrialConfig
from advlora.evaluation.evaluator import Evaluator
from advlora.models import Preprocessing, load_model
from advlora.numerics import computing
from advlora.training.workbench import Workbench
from tests.advlora.short_trials import PROTOCOL, evaluation, trial

pytestmark = pytest.mark.unit


def settings() -> dict[str, bool]:
    return {
        "convolutions in TF32": torch.backends.cudnn.allow_tf32,
        "products in TF32": torch.backends.cuda.matmul.allow_tf32,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill": uninitialised.fill_uninitialized_memory,
        "benchmark": torch.backends.cudnn.benchmark,
    }


STRICT = {
    "convolutions in TF32": False,
    "products in TF32": False,
    "deterministic": True,
    "warn only": False,
    "fill": False,
    "benchmark": False,
}
TF32 = {"convolutions in TF32": True, "products in TF32": True}
ON_A_GPU = {"resources.gpus_per_worker": 1}


@pytest.mark.parametrize(
    ("precision", "deterministic", "expected"),
    [
        ("fp32", True, STRICT),
        ("bf16", True, STRICT),
        ("tf32", True, {**STRICT, **TF32}),
        ("tf32", False, {**STRICT, **TF32, "deterministic": False}),
    ],
)
def test_settings_hold_inside_and_are_restored_outside(precision, deterministic, expected):
    before = settings()
    with computing(precision, deterministic=deterministic):
        assert settings() == expected
        with computing():
            assert settings() == STRICT
        assert settings() == expected
    assert settings() == before


def test_settings_are_restored_after_an_error():
    before = settings()
    with pytest.raises(RuntimeError), computing("tf32"):
        raise RuntimeError
    assert settings() == before


def test_both_interfaces_of_torch_stay_readable():
    """After a write by the newer one, torch refuses the older one's question, also that of another library."""
    for precision in ("tf32", "fp32"):
        with computing(precision):
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=torch.backends.cudnn.allow_tf32):
                assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")
            assert torch.get_float32_matmul_precision() == ("high" if precision == "tf32" else "highest")
            newer = torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision
            assert ("tf32" in newer) == (precision == "tf32")


def test_nothing_else_touches_these_settings():
    names = ("allow_tf32", "fp32_precision", "use_deterministic_algorithms", "set_float32_matmul_precision")
    roots = Path(advlora.__file__).parent, Path(__file__).parents[2] / "platform"
    files = {file.name for root in roots for file in root.rglob("*.py") if any(n in file.read_text() for n in names)}
    assert files == {"numerics.py"}


class Listening(Workbench):
    """Hears under which settings images pass the towers of its models, in the epochs of training and elsewhere."""

    def __init__(self):
        super().__init__()
        self.heard: dict[str, list[dict[str, bool]]] = {"training": [], "else": []}
        self.training = False

    def model(self, config):
        model = super().model(config)
        model.vision.register_forward_hook(self._hear)
        return model

    def _hear(self, *_):
        self.heard["training" if self.training else "else"].append(settings())


def heard(values, monkeypatch) -> Listening:
    from advlora.training import trainer
    from advlora.training.updates import Updates

    class Marked(Updates):
        def run(self, epoch):
            bench.training = True
            try:
                return super().run(epoch)
            finally:
                bench.training = False

    bench = Listening()
    monkeypatch.setattr(trainer, "Updates", Marked)
    config = trial({"data.train_samples": 8, "optimiser.epochs": 1, "optimiser.batch_size": 8, **values})
    guarded = evaluation(samples={"val": 4, "test": 4}, guards={"samples": 2, "queries": 2}, curve=())
    list(trainer.fine_tune(config, guarded, bench=bench))
    return bench


@pytest.mark.parametrize(
    ("values", "training"),
    [
        ({}, STRICT),
        ({"precision": "tf32", **ON_A_GPU}, {**STRICT, **TF32}),
        ({"deterministic": False}, {**STRICT, "deterministic": False}),
    ],
)
def test_a_trial_trains_as_it_says_and_is_evaluated_and_guarded_in_true_float32(values, training, monkeypatch):
    before, bench = settings(), heard(values, monkeypatch)
    assert bench.heard["training"]
    assert all(found == training for found in bench.heard["training"])
    # The counting of operations is a step of the training; it comes first and is none of the evaluation.
    evaluated = bench.heard["else"][3:]
    assert len(evaluated) > 10
    assert all(found == STRICT for found in evaluated)
    assert settings() == before


def test_what_is_measured_without_a_trial_is_measured_in_true_float32():
    config, bench = TrialConfig(), Listening()
    model = bench.model(config.model)
    with computing("tf32", deterministic=False):
        Evaluator(model, config.data, PROTOCOL, bench, config.model, changed=False).measure("val", curve=False)
        bench.image_features(config.model, bench.split(config.data, "val", Preprocessing(28), 4), torch.device("cpu"))
    assert len(bench.heard["else"]) > 3
    assert all(found == STRICT for found in bench.heard["else"])


def test_exports_are_verified_in_true_float32(monkeypatch):
    found = []
    monkeypatch.setattr(export, "_embed", lambda model, *_: found.append(settings()) or [torch.ones(1, 2)])
    adapted = type("Adapted", (), {"model": load_model(TrialConfig().model), "trains_text": False})()
    with computing("tf32"):
        export.verify("merged", adapted.model, adapted, torch.zeros(1, 3, 28, 28))
    assert found == [STRICT, STRICT]
