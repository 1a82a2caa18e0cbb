from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from advlora.losses import ClassCrossEntropy, Contrastive, Fare, build_loss
from advlora.training.trainer import restore
from tests.advlora.short_trials import trial

pytestmark = pytest.mark.unit

COUNT, DIM, SCALE = 12, 6, torch.tensor(7.0)
BATCH = torch.tensor([3, 0, 7, 4, 11, 8])
CAPTION_IDS = torch.tensor([0, 1, 2, 0, 0, 3, 1, 4, 2, 2, 3, 4])
"""Of the batch, samples 3, 0 and 4 share caption 0."""


@pytest.fixture
def random():
    return torch.Generator().manual_seed(2)


@pytest.fixture
def features(random):
    return 3 * torch.randn(len(BATCH), DIM, generator=random)


def unit(random, count):
    return normalize(torch.randn(count, DIM, generator=random), dim=-1)


@pytest.fixture
def contrastive(random):
    return Contrastive(unit(random, 5), CAPTION_IDS, SCALE)


@pytest.fixture
def set_of(bench):
    return lambda config: bench.split(config.data, "train", 28, config.data.train_samples)


@pytest.fixture
def built(bench, set_of):
    def built(values):
        config = trial(values)
        return build_loss(config, bench, set_of(config), restore(config, bench))

    return built


def test_cross_entropy_is_its_formula(random, features):
    classes, labels = unit(random, 4), torch.randint(4, (COUNT,), generator=random)
    found = ClassCrossEntropy(classes, labels, SCALE)(features, BATCH, BATCH)
    for place, sample in enumerate(BATCH.tolist()):
        scores = [float(SCALE * (features[place] / features[place].norm()) @ text) for text in classes]
        odds = torch.tensor(scores, dtype=torch.float64).exp()
        assert float(found[place]) == pytest.approx(-float((odds[labels[sample]] / odds.sum()).log()), rel=1e-4)


def test_contrastive_is_the_supervised_contrastive_loss_with_every_copy_as_a_positive(contrastive, features):
    found = contrastive(features, BATCH, BATCH)
    ids = CAPTION_IDS[BATCH].tolist()
    assert len(set(ids)) < len(ids)
    texts = contrastive.captions[CAPTION_IDS[BATCH]].double()
    for place, own in enumerate(ids):
        odds = (SCALE * texts @ (features[place] / features[place].norm()).double()).exp()
        positives = [other for other, caption in enumerate(ids) if caption == own]
        expected = -sum(float((odds[other] / odds.sum()).log()) for other in positives) / len(positives)
        assert float(found[place]) == pytest.approx(expected, rel=1e-4)


def test_a_part_of_the_batch_gets_the_contrastive_loss_of_the_whole(contrastive, features):
    whole = contrastive(features, BATCH, BATCH)
    torch.testing.assert_close(contrastive(features[1::2], BATCH[1::2], BATCH), whole[1::2])
    assert (contrastive(features[1::2], BATCH[1::2], BATCH[1::2]) < whole[1::2]).all()


def test_fare_is_the_squared_distance_without_normalisation(random, features):
    targets = torch.randn(COUNT, DIM, generator=random)
    found = Fare(targets)(features, BATCH, BATCH)
    expected = [
        sum((a - b) ** 2 for a, b in zip(row.tolist(), targets[sample].tolist(), strict=True))
        for row, sample in zip(features, BATCH.tolist(), strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_losses_are_fp32_even_of_bf16_features(contrastive, features):
    for loss in (contrastive, Fare(torch.zeros(COUNT, DIM)), ClassCrossEntropy(torch.eye(DIM), CAPTION_IDS, SCALE)):
        assert loss(features.bfloat16(), BATCH, BATCH).dtype == torch.float32


def test_an_empty_share_of_a_batch_has_no_loss(contrastive, features):
    none = torch.tensor([], dtype=torch.long)
    for loss in (contrastive, Fare(torch.zeros(COUNT, DIM)), ClassCrossEntropy(torch.eye(DIM), CAPTION_IDS, SCALE)):
        assert loss(features[:0], none, BATCH).shape == (0,)


def test_fare_is_zero_on_clean_images_before_the_first_step(bench, set_of, built):
    config = trial({"loss.kind": "fare"})
    samples = torch.tensor([5, 40, 0])
    images = set_of(config).images[samples].float() / 255
    model = restore(config, bench).model
    clean, noisy = (
        built({"loss.kind": "fare"})(model.encode_images(points), samples, samples)
        for points in (images, (images + 0.1).clamp(0, 1))
    )
    assert clean.max() < 1e-5 < noisy.min()


def test_the_built_cross_entropy_compares_with_labels_and_class_texts(bench, set_of, built):
    config, loss = trial(), built({})
    assert torch.equal(loss.labels, set_of(config).labels)
    assert torch.equal(loss.classes, bench.class_features(config.model, config.data))
    assert float(loss.scale) == pytest.approx(float(bench.model(config.model).logit_scale))


def test_the_built_contrastive_loss_embeds_every_distinct_caption_once(bench, set_of, built):
    config, loss = trial(), built({"loss.kind": "contrastive"})
    captions = set_of(config).captions
    assert len(loss.captions) == len(set(captions)) < len(captions)
    expected = normalize(bench.model(config.model).encode_texts(captions), dim=-1)
    torch.testing.assert_close(loss.captions[loss.caption_ids], expected, rtol=0, atol=1e-5)
