"""Retrieval on the embedded model: an image of every class, and captions of the class."""

from __future__ import annotations

import pytest
import torch

from advlora.attacks import Threat
from advlora.attacks.retrieval import RetrievalCase, attack_captions, attack_images, attack_jointly
from advlora.config import DataConfig, ModelConfig
from advlora.data import load_manifest
from advlora.evaluation.recall import ranks
from advlora.models import Preprocessing
from advlora.randomness import Streams
from advlora.training.workbench import Workbench

pytestmark = pytest.mark.unit

CLASSES, THREAT = 10, Threat("linf", 8 / 255)
OWN = torch.eye(CLASSES, dtype=torch.bool).repeat_interleave(3, dim=1)


@pytest.fixture(scope="module")
def bench():
    return Workbench()


@pytest.fixture(scope="module")
def model(bench):
    return bench.model(ModelConfig())


@pytest.fixture(scope="module")
def scene(bench, model):
    """Images, three captions of each, whose they are."""
    data, manifest = bench.split(DataConfig(), "val", Preprocessing(28), 100), load_manifest(DataConfig())
    places = [int((data.labels == label).nonzero()[0]) for label in range(CLASSES)]
    captions = [caption for label in range(CLASSES) for caption in manifest.captions(label)[:3]]
    return data.images[places].float() / 255, captions, OWN


@pytest.fixture(scope="module")
def texts(model, scene):
    return model.encode_texts(scene[1])


def streams():
    return Streams.of(0, "retrieval", samples=torch.arange(CLASSES))


@pytest.fixture(scope="module")
def case(model, scene):
    """The scene under an attack of five steps at three scales."""
    images, _, own = scene

    def case(images=images, own=own, threat=THREAT, **values) -> RetrievalCase:
        settings = {"steps": 5, "step_size": 4 / 255, "scales": (0.75, 1.25), **values}
        return RetrievalCase(model, images, own, threat, streams()[: len(images)], **settings)

    return case


@torch.no_grad()
def looked_up(model, images, captions):
    features = torch.nn.functional.normalize(model.encode_images(images), dim=-1)
    scores = features @ torch.nn.functional.normalize(captions, dim=-1).T
    return ranks(scores, scores, OWN)


def words(_, __):
    return ["shoe", "dress", "bag", "coat"]


def test_an_image_attack_in_the_ball_loses_the_captions(model, scene, texts, case):
    images, _, _ = scene
    attacked = attack_images(case(), texts)
    clean, broken = looked_up(model, images, texts), looked_up(model, attacked, texts)
    assert (attacked - images).abs().max() <= THREAT.epsilon + 1e-6
    assert clean.recalls()["tr_r1"] > 0.7
    assert clean.success_rates(broken)["tr_r1"] > 0.5
    noise = THREAT.project(images + THREAT.draw(images, streams()), images)
    assert clean.success_rates(looked_up(model, noise, texts))["tr_r1"] < 0.2


def test_videos_are_attacked_frame_by_frame_and_scale_by_scale(model, scene, texts, case):
    images, _, own = scene
    videos = images[:2, None].expand(-1, 2, -1, -1, -1)
    attacked = attack_images(case(videos, own[:2]), texts)
    assert attacked.shape == videos.shape
    with torch.no_grad():
        before, after = (
            torch.nn.functional.cosine_similarity(model.embed(each), texts[[0, 3]]) for each in (videos, attacked)
        )
    assert (after < before).all()


def test_the_whole_set_of_captions_is_aimed_at_not_the_first_alone(model, scene, texts, case):
    _, _, own = scene
    first = own & (own.cumsum(1) == 1)
    whole = attack_images(case(scales=()), texts)
    single = attack_images(case(own=first, scales=()), texts)

    def similarity(points):
        with torch.no_grad():
            features = torch.nn.functional.normalize(model.encode_images(points), dim=-1)
        return (features @ torch.nn.functional.normalize(texts, dim=-1).T * own).sum() / own.sum()

    assert similarity(whole) < similarity(single)


def test_a_caption_changes_in_one_word_at_most_and_moves_away(model, scene):
    images, captions, own = scene
    with torch.no_grad():
        features = model.encode_images(images)
    changed = attack_captions(model, captions, features, own, words)
    pairs = [zip(one.split(), other.split(), strict=True) for one, other in zip(captions, changed, strict=True)]
    assert max(sum(before != after for before, after in pair) for pair in pairs) == 1
    before, after = (looked_up(model, images, model.encode_texts(each)).recalls() for each in (captions, changed))
    assert after["ir_r1"] < before["ir_r1"]


def test_a_caption_without_candidates_stays(model, scene):
    images, captions, own = scene
    with torch.no_grad():
        features = model.encode_images(images)
    assert attack_captions(model, captions, features, own, lambda *_: []) == captions


WEAK = {"steps": 3, "step_size": 1 / 255, "scales": ()}


def test_image_and_text_together_break_at_least_as_much_as_the_image_alone(model, scene, texts, case):
    images, captions, _ = scene
    weak = case(threat=Threat("linf", 1 / 255), **WEAK)
    alone = attack_images(weak, texts)
    both, changed = attack_jointly(case(threat=weak.threat, **WEAK), captions, words, single=False)
    clean = looked_up(model, images, texts)
    single = clean.success_rates(looked_up(model, alone, texts))
    joint = clean.success_rates(looked_up(model, both, model.encode_texts(changed)))
    assert joint["tr_r1"] >= single["tr_r1"]
    assert joint["ir_r1"] > single["ir_r1"]


def test_co_attack_turns_an_image_from_its_first_caption_only(model, scene, case):
    images, captions, own = scene
    found, changed = attack_jointly(case(**WEAK), captions, words, single=True)
    others = [caption if number % 3 == 0 else "a shoe" for number, caption in enumerate(captions)]
    assert torch.equal(attack_jointly(case(**WEAK), others, words, single=True)[0], found)
    with torch.no_grad():
        assert changed == attack_captions(model, captions, model.encode_images(images), own, words)
    whole, _ = attack_jointly(case(**WEAK), captions, words, single=False)
    assert not torch.equal(whole, found)
