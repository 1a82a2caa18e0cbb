from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from advlora.config import DataConfig, ModelConfig
from advlora.data import load_manifest
from advlora.evaluation.zero_shot import ZeroShotClassifier, class_captions, class_features, live_class_features
from advlora.models import Preprocessing

pytestmark = pytest.mark.unit


def test_a_class_is_the_mean_of_its_captions() -> None:
    manifest = load_manifest(DataConfig())
    captions = class_captions(manifest)
    templates = len(captions) // len(manifest.classes)
    unit = normalize(torch.randn(len(captions), 6, generator=torch.Generator().manual_seed(0)), dim=1)
    features = class_features(unit, manifest)
    assert features.shape == (len(manifest.classes), 6)
    torch.testing.assert_close(features[1], normalize(unit[templates : 2 * templates].mean(0), dim=0))
    assert torch.equal(live_class_features(lambda _: 3 * unit, manifest), class_features(normalize(3 * unit), manifest))


def test_a_classifier_scales_the_cosine_and_leaves_training_mode(bench) -> None:
    model, features = bench.model(ModelConfig()).train(), bench.class_features(ModelConfig(), DataConfig())
    classifier = ZeroShotClassifier(model, features)
    assert not model.training
    assert classifier.device == features.device
    images = bench.split(DataConfig(), "val", Preprocessing(28), 4).images.float() / 255
    cosine = torch.nn.functional.cosine_similarity(model.encode_images(images)[:, None], features[None], dim=-1)
    torch.testing.assert_close(classifier(images), model.logit_scale * cosine, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(classifier.features(images).norm(dim=1), torch.ones(4))
