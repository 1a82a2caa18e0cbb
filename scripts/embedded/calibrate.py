"""Measures what `advlora doctor` compares with, and writes it to `advlora/embedded/calibration.json`.

Our evaluator and pyautoattack (Croce & Hein 2020, their code) attack the same images by the attacks of one protocol.
To be run again when attacks, random numbers, the embedded model or the protocol change; some minutes on one core.

Usage:
    python -m scripts.embedded.calibrate
"""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import torch
from torch import Tensor

from advlora.config import DataConfig, EvaluationProtocol, ModelConfig
from advlora.data import ImageTextSet
from advlora.evaluation.calibration import WIDTH, Calibration, calibration_file, flags
from advlora.evaluation.classification import Classification
from advlora.evaluation.zero_shot import ZeroShotClassifier
from advlora.numerics import computing
from advlora.training.workbench import Workbench
from advlora_platform.measure import read_protocol

PROTOCOL, PARTS = "strong", ("apgd-ce", "apgd-t")
"""The attacks of this protocol, as pyautoattack calls them."""
SPLIT = "test"


def ours(
    classifier: ZeroShotClassifier, data: ImageTextSet, protocol: EvaluationProtocol
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns clean and robust outcomes, and which of them rounding may change, `(N,)` each."""
    epsilon = protocol.epsilon
    smaller, larger = (1 - WIDTH) * epsilon, (1 + WIDTH) * epsilon
    found = Classification(classifier, protocol).outcomes(data, (smaller, epsilon, larger))
    robust = found.robust[epsilon]
    return found.clean, robust, (found.robust[smaller] != robust) | (found.robust[larger] != robust)


def theirs(classifier: ZeroShotClassifier, images: Tensor, labels: Tensor, epsilon: float) -> float:
    """Returns the robust accuracy by pyautoattack."""
    from pyautoattack import AutoAttack

    with torch.no_grad():
        right = classifier(images).argmax(1) == labels
    evaluator = AutoAttack(classifier, eps=epsilon, attacks=list(PARTS), version="custom", seed=0)
    evaluator.apgd.n_restarts = 1  # as in its version `standard`
    attacked, _ = evaluator.run_standard_evaluation(images[right], labels[right])
    with torch.no_grad():
        kept = classifier(attacked.detach()).argmax(1) == labels[right]
    return float(kept.sum()) / len(images)


@computing()
def calibrate(samples: int) -> Calibration:
    """Measures the embedded model on the first images of `test`."""
    bench, model, data, protocol = Workbench(), ModelConfig(), DataConfig(), read_protocol(PROTOCOL)
    network = bench.model(model)
    classifier = ZeroShotClassifier(network, bench.class_features(model, data))
    examples = bench.split(data, SPLIT, network.preprocessing, samples)
    clean, robust, near = ours(classifier, examples, protocol)
    images = (examples.images.float() / 255).contiguous()  # pyautoattack fails on other strides
    return Calibration(
        model=model.name,
        data=data.name,
        split=SPLIT,
        protocol_name=PROTOCOL,
        protocol=protocol.model_dump(mode="json"),
        clean=flags(clean),
        robust=flags(robust),
        near=flags(near),
        library=f"pyautoattack {_version('pyautoattack')}, {' and '.join(PARTS)}",
        library_robust=theirs(classifier, images, examples.labels, protocol.epsilon),
        made={
            "by": "python -m scripts.embedded.calibrate",
            "torch": torch.__version__,
            "machine": f"{platform.system()} {platform.machine()}, CPU",
        },
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=50)
    options = parser.parse_args()
    if find_spec("pyautoattack") is None:
        parser.exit(2, "pyautoattack is missing; install the development tools: pip install -e '.[dev]'\n")
    found = calibrate(options.samples)
    found.write(calibration_file())
    print(
        f"{found.samples} images, protocol '{found.protocol_name}': robust {found.robust_accuracy:.1%} by ours, "
        f"{found.library_robust:.1%} by {found.library}; {found.near.count('1')} near the boundary"
    )


if __name__ == "__main__":
    main()
