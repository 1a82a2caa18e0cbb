from __future__ import annotations

from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import pytest
import torch

from advlora import identity
from advlora.config import DataConfig, ModelConfig
from advlora.evaluation import calibration
from advlora.evaluation.calibration import Calibration, differing, flags
from advlora.evaluation.outcomes import Outcomes
from advlora.numerics import computing
from advlora.training.workbench import Workbench
from advlora_platform import doctor
from advlora_platform.measure import read_protocol

pytestmark = pytest.mark.unit

CLEAN, ROBUST, NEAR = "1111101111", "1110001000", "0001000000"


def made(**changes) -> Calibration:
    content = {
        "model": "tiny-clip",
        "data": "fashion-mnist",
        "split": "test",
        "protocol_name": "strong",
        "protocol": read_protocol("strong").model_dump(mode="json"),
        "clean": CLEAN,
        "robust": ROBUST,
        "near": NEAR,
        "library": "pyautoattack",
        "library_robust": 0.4,
        "made": {},
    }
    return Calibration(**{**content, **changes})


def outcomes(clean: str = CLEAN, robust: str = ROBUST) -> Outcomes:
    clean_flags, robust_flags = (torch.tensor([flag == "1" for flag in text]) for text in (clean, robust))
    return Outcomes(clean=clean_flags, robust={8 / 255: robust_flags}, attacks={8 / 255: {}})


def failed(calibration: Calibration, found: Outcomes) -> set[str]:
    return {check.name for check in doctor.compared(calibration, found, 1.0) if not check.ok}


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, set()),
        ({"clean": "0111101111"}, {"clean"}),
        ({"robust": "1111001000"}, set()),  # the image that stands near the boundary
        ({"robust": "0110001000"}, {"attacked"}),
    ],
)
def test_an_example_may_differ_where_rounding_decides_and_nowhere_else(changes, wrong):
    assert failed(made(), outcomes(**changes)) == wrong


def test_an_accuracy_far_from_the_librarys_is_said():
    assert failed(made(library_robust=0.6), outcomes()) == {"library"}


def test_another_protocol_than_that_of_the_outcomes_is_said():
    assert doctor.protocol_check(made()).ok
    assert not doctor.protocol_check(made(protocol={"epsilon": 1})).ok


def test_versions_are_held_against_what_the_project_asks_for():
    def installed(name):
        if name == "mlflow":
            raise PackageNotFoundError(name)
        return {"torch": "1.0", "ray": "2.60.0"}.get(name, "999")

    found = {check.name: check for check in doctor.packages(installed)}
    assert not found["torch"].ok
    assert found["ray"].ok
    assert not found["mlflow"].ok
    assert found["torch"].fix.startswith("pip install 'torch")


def test_this_machine_multiplies_exactly_and_repeats():
    assert doctor.precision().ok
    assert doctor.repeats(Workbench().model(ModelConfig())).ok


@pytest.fixture(scope="module")
def shipped() -> Calibration:
    return calibration.shipped()


def test_the_shipped_outcomes_say_how_they_were_made(shipped):
    assert shipped.made["by"] == "python -m scripts.embedded.calibrate"
    assert doctor.protocol_check(shipped).ok
    assert len(shipped.clean) == len(shipped.robust) == len(shipped.near) == shipped.samples >= 32
    assert abs(shipped.robust_accuracy - shipped.library_robust) <= 0.005
    assert shipped.near.count("1") <= shipped.samples // 5


def test_the_shipped_outcomes_are_met_on_clean_images_by_a_margin_that_rounding_does_not_bridge(shipped):
    bench, data = Workbench(), DataConfig(name=shipped.data)
    model = bench.model(ModelConfig(name=shipped.model))
    examples = bench.split(data, shipped.split, model.preprocessing, shipped.samples)
    with computing(), torch.no_grad():
        features = torch.nn.functional.normalize(model.encode_images(examples.images.float() / 255), dim=-1)
        logits = model.logit_scale * features @ bench.class_features(ModelConfig(), data).T
    best = logits.topk(2).values
    assert (best[:, 0] - best[:, 1]).min() > 1e-3
    assert differing(shipped.clean, flags(logits.argmax(1) == examples.labels)) == []


def test_making_the_outcomes_again_makes_no_new_trials(tmp_path):
    (tmp_path / "embedded").mkdir()
    before = identity.hash_files(tmp_path)
    replace(made(), made={"torch": "0"}).write(tmp_path / calibration.FILE)
    assert identity.hash_files(tmp_path) == before
