"""Retrieval as a classifier: both directions, and the attacks on classes that run on it, on the embedded model."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from advlora.attacks import objective
from advlora.config import DataConfig, ModelConfig
from advlora.data import ImageTextSet
from advlora.errors import ConfigError
from advlora.evaluation.classification import Classification
from advlora.evaluation.queries import ImageToText, TextToImage, Visited
from advlora.evaluation.retrieval import Retrieval
from advlora.evaluation.zero_shot import ZeroShotClassifier
from advlora.models import Preprocessing, load_model
from tests.advlora.short_trials import evaluation, evaluation_attack

pytestmark = pytest.mark.unit

COUNT, EPSILON = 16, 4 / 255


@pytest.fixture(scope="module")
def model(bench):
    return bench.model(ModelConfig())


@pytest.fixture(scope="module")
def data(bench):
    return bench.split(DataConfig(name="emoji"), "test", Preprocessing(28), COUNT)


@pytest.fixture(scope="module")
def retrieval(model, data):
    def retrieval(*attacks, **values) -> Retrieval:
        return Retrieval(model, data, evaluation(attacks=list(attacks) or [{}], epsilon=EPSILON, **values))

    return retrieval


def margins(retrieval: Retrieval, way, points):
    """The margins of points in a direction, `(N,)`."""
    common = (retrieval.model, retrieval.gallery, points, torch.arange(len(points)))
    asked = ImageToText(*common) if way == "image_to_text" else TextToImage(*common, retrieval.features)
    return asked.margin(points)


def attacked(retrieval: Retrieval):
    """The points that a single attacker finds, `(N, 3, H, W)`."""
    (attacker,) = retrieval.attackers(retrieval.protocol, EPSILON)
    return attacker(retrieval.data.images.float() / 255, torch.arange(len(retrieval.data)))[0]


def test_captions_look_for_their_image_among_all_others(retrieval):
    found, count = retrieval(), COUNT
    images, owner = found.data.images.float() / 255, found.gallery.owner
    scores = found.model.logit_scale * found.features @ found.gallery.features.T  # (N, T)
    expected = []
    for place in range(count):
        own = [t for t in range(len(owner)) if owner[t] == place]
        others = [max(scores[j, t] for j in range(count) if j != place) for t in own]
        expected.append(sum(other - scores[place, t] for other, t in zip(others, own, strict=True)) / len(own))
    torch.testing.assert_close(margins(found, "text_to_image", images), torch.stack(expected), rtol=1e-3, atol=1e-3)
    assert len({int((owner == place).sum()) for place in range(count)}) > 1, "images have different numbers of captions"


@pytest.mark.parametrize("name", ["cross_entropy", "margin"])
def test_a_query_that_only_fills_a_place_changes_neither_value_nor_gradient(name):
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    own = torch.zeros(2, 3, 4, dtype=torch.bool)
    own[0, 0, 1] = own[0, 1, 2] = own[1, 0, 0] = own[1, 1, 3] = own[1, 2, 1] = True
    value = objective(name, logits, own)
    single = [objective(name, logits[0, place][None], torch.tensor([place + 1])) for place in (0, 1)]
    torch.testing.assert_close(value[0], torch.cat(single).mean())
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gradient.isfinite().all()
    assert (gradient[0, 2] == 0).all()
    assert (gradient[1].abs().sum(-1) > 0).all()


def test_several_right_answers_count_together():
    logits, own = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[True, False, True]])
    shares = logits.softmax(1)[0]
    assert objective("cross_entropy", logits, own).item() == pytest.approx(-(shares[0] + shares[2]).log().item())
    assert objective("margin", logits, own).tolist() == [-1.0]


@pytest.mark.parametrize("way", ["image_to_text", "text_to_image"])
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_apgd_goes_as_far_as_pgd_of_as_many_steps(retrieval, way, loss):
    shared = {"loss": loss, "steps": 8, "direction": way}
    pgd, apgd = (retrieval({"kind": kind, **shared}) for kind in ("pgd", "apgd"))
    clean = margins(pgd, way, pgd.data.images.float() / 255)
    gains = [(margins(each, way, attacked(each)) - clean).mean() for each in (pgd, apgd)]
    assert gains[0] > 1
    assert gains[1] >= 0.97 * gains[0], "the loss is not margin, so that a little may be lost"
    direction = "texts" if way == "image_to_text" else "images"
    lost = [(getattr(each.ranks(EPSILON)[""], direction) > 0).sum() for each in (pgd, apgd)]
    assert lost[1] >= lost[0] - 1, "one query may be lost either way"


def test_each_direction_is_hurt_most_by_the_attack_on_it(retrieval):
    both = {way: retrieval({"kind": "apgd-ce", "steps": 8, "direction": way}) for way in WAYS}
    points = {way: attacked(each) for way, each in both.items()}
    for way, other in (WAYS, WAYS[::-1]):
        own, foreign = (margins(both[way], way, points[each]).mean() for each in (way, other))
        assert own > foreign


WAYS = ("image_to_text", "text_to_image")


def test_both_directions_are_two_attackers_and_the_worst_of_them_counts(retrieval):
    attack = {"kind": "apgd-ce", "steps": 4}
    both = retrieval({**attack, "direction": "both"}).ranks(EPSILON)[""]
    alone = [retrieval({**attack, "direction": way}).ranks(EPSILON)[""] for way in WAYS]
    assert (both.texts >= alone[0].texts).all()
    assert (both.images >= alone[1].images).float().mean() > 0.9, "its random numbers are those of another attack"


def test_an_attack_on_images_is_that_on_a_classifier_whose_classes_are_the_captions(model, data, retrieval):
    """With one caption per image, the outcome of an image does not depend on what it is called."""
    single = ImageTextSet(data.images, torch.arange(COUNT), data.captions)
    settings = evaluation(attacks=[{"kind": "apgd", "loss": "margin", "steps": 6}], epsilon=EPSILON)
    found = Retrieval(model, single, settings)
    classifier = ZeroShotClassifier(model, found.gallery.features)
    robust = Classification(classifier, settings).outcomes(single, (EPSILON,)).robust[EPSILON]
    assert ((found.ranks(EPSILON)[""].texts == 0) != robust).sum() <= 1, "their random starts differ"


@pytest.mark.parametrize("attack", [{"kind": "square", "steps": 60}, {"kind": "square", "steps": 60, "norm": "l2"}])
def test_the_black_box_attack_runs_on_both_directions(model, data, attack):
    epsilon = 8 / 255 if "norm" not in attack else 1.5
    for way in WAYS:
        found = Retrieval(model, data, evaluation(attacks=[{**attack, "direction": way}], epsilon=epsilon))
        images = data.images.float() / 255
        (attacker,) = found.attackers(found.protocol, epsilon)
        points = attacker(images, torch.arange(COUNT))[0]
        assert (margins(found, way, points) > margins(found, way, images)).any()
        size = (points - images).flatten(1)
        assert (size.abs().amax(1) if "norm" not in attack else size.norm(dim=1)).max() <= epsilon * (1 + 1e-4)


@pytest.mark.parametrize("attack", [{"kind": "apgd-ce"}, {}, {"kind": "square"}, {"kind": "set-level"}], ids=str)
def test_videos_are_attacked_as_a_whole_in_l2_too(tiny, attack):
    clip = load_model(tiny("clip"))
    videos = torch.randint(0, 256, (4, 2, 3, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    data = ImageTextSet(videos, torch.zeros(4, dtype=torch.int64), ("a cat", "a red dog", "the boot", "a dress"))
    settings = evaluation(attacks=[{"steps": 3, "norm": "l2", **attack}], epsilon=0.8)
    found = Retrieval(clip, data, settings)
    (attacker,) = found.attackers(settings, 0.8)
    points = attacker(videos.float() / 255, torch.arange(4))[0]
    lengths = (points - videos.float() / 255).flatten(1).norm(dim=1)
    assert points.shape == videos.shape
    assert 0 < lengths.max() <= 0.8 * (1 + 1e-5)
    assert "val/robust_mean_recall:0.8" in found.metrics("val", curve=False)


def test_the_worst_visited_point_is_kept(retrieval):
    found = retrieval()
    images = found.data.images.float() / 255
    asked = ImageToText(found.model, found.gallery, images, torch.arange(COUNT))
    visited, others = Visited(asked, images), torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    for points in (images, others, images):
        visited(points)
    expected = torch.maximum(asked.margin(images), asked.margin(others))
    torch.testing.assert_close(asked.margin(visited.worst), expected)


def test_a_direction_is_said_in_the_name_and_refused_where_it_does_nothing(bench):
    attack = evaluation_attack(kind="apgd-ce", direction="both")
    assert attack.label == "apgd-ce-100 both"
    assert [part.label for part in attack.parts()] == ["apgd-ce-100", "apgd-ce-100 text-to-image"]
    assert attack.describe(8 / 255) == "APGD-CE-100 (L-inf 8/255, in both directions)"
    assert attack.forwards(10) == 2 * evaluation_attack(kind="apgd-ce").forwards(10)
    classifier = ZeroShotClassifier(bench.model(ModelConfig()), bench.class_features(ModelConfig(), DataConfig()))
    with pytest.raises(ConfigError, match="direction 'both' of 'apgd-ce' has no effect on classes; leave it out"):
        Classification(classifier, evaluation(attacks=[attack])).attacks  # noqa: B018 - asks for a property


def test_features_are_unit_and_those_of_the_clean_images(retrieval):
    found = retrieval()
    expected = normalize(found.model.encode_images(found.data.images.float() / 255), dim=-1)
    torch.testing.assert_close(found.features, expected)
