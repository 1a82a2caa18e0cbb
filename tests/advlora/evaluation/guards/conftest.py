"""The pretrained embedded model, and one that a short adversarial fine-tuning made robust."""

from __future__ import annotations

import pytest
import torch

from advlora.config import DataConfig, EvaluationProtocol, ModelConfig, TrialConfig, parse
from advlora.evaluation.classification import Classification
from advlora.evaluation.guards import run_guards, same_as_merged
from advlora.evaluation.zero_shot import ZeroShotClassifier
from advlora.models import Preprocessing

COUNT = 24
ROBUST = {
    "data": {"train_samples": 1024},
    "adapter": {"kind": "full"},
    "attack": {"kind": "pgd", "epsilon": "8/255", "steps": 2},
    "optimiser": {"learning_rate": 1e-3, "epochs": 1},
}
PROTOCOL = {
    "epsilon": "8/255",
    "attacks": [{"steps": 10}],
    "samples": {"val": COUNT},
    "guards": {"samples": COUNT, "queries": 200},
}


@pytest.fixture(scope="session")
def robust(bench):
    from advlora.training.trainer import fine_tune, restore

    config = parse(TrialConfig, ROBUST)
    *_, report = fine_tune(config, parse(EvaluationProtocol, PROTOCOL | {"interval": 0}), bench=bench)
    return restore(config, bench, report.state).model


@pytest.fixture(scope="session")
def plain(bench):
    return bench.model(ModelConfig())


@pytest.fixture(scope="session")
def guard(bench):
    """Checks a model, by default under PGD-10; returns the findings by name."""
    data = bench.split(DataConfig(), "test", Preprocessing(28), COUNT)
    classes = bench.class_features(ModelConfig(), DataConfig())

    def guard(model, surrogate=None, merged=None, **values):
        protocol = parse(EvaluationProtocol, PROTOCOL | values)
        classifier = ZeroShotClassifier(model, classes)
        transferring = None if surrogate is None else ZeroShotClassifier(surrogate, classes)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            known = Classification(classifier, protocol, transferring).outcomes(data, (protocol.epsilon,))
            findings = run_guards(classifier, data, protocol, known, surrogate=transferring)
            if merged is not None:
                findings.append(same_as_merged(classifier, ZeroShotClassifier(merged, classes), data.images / 255))
        return {finding.name: finding for finding in findings}

    return guard
