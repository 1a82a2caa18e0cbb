"""Does this installation compute what it should? Every check says what is wrong and how to fix it."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

import torch
from packaging.requirements import Requirement

from advlora.config import DataConfig, EvaluationProtocol, ModelConfig, parse
from advlora.evaluation.calibration import Calibration, differing, flags, shipped
from advlora.evaluation.evaluator import Evaluator
from advlora.evaluation.outcomes import Outcomes
from advlora.models import VisionLanguageModel
from advlora.numerics import computing
from advlora.training.workbench import Workbench
from advlora_platform.measure import read_protocol

PACKAGES = ("torch", "ray", "mlflow", "peft", "open_clip_torch", "transformers", "optuna")
CLEAN_MAY_DIFFER = 0
"""Images: none of the shipped ones lies so near a boundary that rounding decides."""
LIBRARY_POINTS = 0.5
"""Points of accuracy by which our attacks and those of a library may differ."""
RUN_AGAIN = "report it with this table"


@dataclass(frozen=True)
class Check:
    """What was looked at.

    Attributes:
        name: Short.
        found: What was found.
        ok: Whether it is as it should be.
        fix: What to do where it is not.
    """

    name: str
    found: str
    ok: bool = True
    fix: str = ""


def examine() -> Iterator[Check]:
    """Yields every check as it is done, from what is quick to what computes."""
    yield Check("python", platform.python_version())
    yield from packages(version)
    yield Check("device", _device_name())
    yield Check("threads", str(torch.get_num_threads()))
    yield precision()
    calibration, bench = shipped(), Workbench()
    model = bench.model(ModelConfig(name=calibration.model)).to(_device())
    yield repeats(model)
    yield protocol_check(calibration)
    begin = time.perf_counter()
    outcomes = measured(calibration, model, bench)
    yield from compared(calibration, outcomes, time.perf_counter() - begin)


def packages(installed: Callable[[str], str]) -> Iterator[Check]:
    """Yields whether the packages are of the versions that the project asks for.

    Args:
        installed: Name -> version; raises `PackageNotFoundError`.
    """
    wanted = {one.name: one.specifier for one in map(Requirement, requires("advlora") or ())}
    for name in PACKAGES:
        allowed = str(wanted.get(name, ""))
        fix = f"pip install '{name}{allowed}'"
        try:
            found = installed(name)
        except PackageNotFoundError:
            yield Check(name, "missing", False, fix)
            continue
        plain = found.partition("+")[0]  # torch names its CUDA behind a plus
        yield Check(name, found, name not in wanted or wanted[name].contains(plain, prereleases=True), fix)


@computing()
def precision() -> Check:
    """Checks that torch multiplies in true float32, by a product that TF32 or bfloat16 would round."""
    one = torch.full((64, 64), 1 + 2.0**-13, device=_device())
    exact = bool((one @ torch.eye(64, device=_device()) == one).all())
    return Check(
        "float32",
        "exact" if exact else "rounded",
        exact,
        "unset NVIDIA_TF32_OVERRIDE and TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    )


@computing()
def repeats(model: VisionLanguageModel) -> Check:
    """Checks that the gradient at a pixel is the same twice, to the bit."""
    first, second = _gradient(model), _gradient(model)
    same = torch.equal(first, second)
    return Check("determinism", "same bits twice" if same else "other bits", same, RUN_AGAIN)


def _gradient(model: VisionLanguageModel) -> torch.Tensor:
    size = model.image_size
    images = torch.linspace(0, 1, 8 * 3 * size * size, device=_device()).view(8, 3, size, size).requires_grad_()
    (gradient,) = torch.autograd.grad(model.encode_images(images).square().sum(), images)
    return gradient


def protocol_check(calibration: Calibration) -> Check:
    """Checks that the shipped outcomes are of the shipped protocol."""
    name = calibration.protocol_name
    same = read_protocol(name).model_dump(mode="json") == calibration.protocol
    return Check("protocol", name, same, "make the outcomes again: python -m scripts.embedded.calibrate")


def measured(calibration: Calibration, model: VisionLanguageModel, bench: Workbench) -> Outcomes:
    """Measures the embedded model on the examples of the calibration."""
    samples = {"samples": {"val": calibration.samples, "test": calibration.samples}}
    protocol = parse(EvaluationProtocol, {**calibration.protocol, **samples, "curve": []})
    data = DataConfig(name=calibration.data)
    base = ModelConfig(name=calibration.model)
    evaluator = Evaluator(model, data, protocol, bench, base, changed=False, own_texts=False, device=_device())
    outcomes = evaluator.measure(calibration.split, curve=False).outcomes
    assert outcomes is not None, "the embedded data set of the calibration has classes"
    return outcomes


def compared(calibration: Calibration, outcomes: Outcomes, seconds: float) -> Iterator[Check]:
    """Yields what became of the examples, here and where the outcomes were made."""
    (robust,) = (flags(right) for right in outcomes.robust.values())
    moved = differing(calibration.clean, flags(outcomes.clean))
    count = calibration.samples
    yield Check("clean", f"{len(moved)} of {count} images differ", len(moved) <= CLEAN_MAY_DIFFER, RUN_AGAIN)
    moved = differing(calibration.robust, robust)
    far = [place for place in moved if calibration.near[place] == "0"]
    allowed = calibration.near.count("1")
    found = f"{len(moved)} of {count} images differ, {len(far)} beyond rounding"
    yield Check("attacked", f"{found} ({allowed} may; {seconds:.0f} s)", not far, RUN_AGAIN)
    accuracy = robust.count("1") / count
    apart = 100 * abs(accuracy - calibration.library_robust)
    yield Check(
        "library",
        f"robust {accuracy:.1%}, {calibration.library_robust:.1%} by {calibration.library}",
        apart <= LIBRARY_POINTS + 100 * len(moved) / count,
        RUN_AGAIN,
    )


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({platform.machine()}), no CUDA"
