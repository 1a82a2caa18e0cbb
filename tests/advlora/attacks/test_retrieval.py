"""Retrieval on the embedded model: every image and the captions of its class."""

from __future__ import annotations

import pytest
import torch

from advlora.attacks import Threat
from advlora.attacks.retrieval import Retrieval, attack_captions, attack_images, attack_jointly, retrieve
from advlora.config import DataConfig, ModelConfig
from advlora.data import load_manifest
from advlora.randomness import generator
from advlora.workbench import Workbench

pytestmark = pytest.mark.unit

COUNT, THREAT = 24, Threat("linf", 8 / 255)


@pytest.fixture(scope="module")
def bench():
    return Workbench()


@pytest.fixture(scope="module")
def model(bench):
    return bench.model(ModelConfig())


@pytest.fixture(scope="module")
def scene(bench, model):
    """Images, captions (three of every class), whose they are."""
    data, manifest = bench.split(DataConfig(), "val", 28, COUNT), load_manifest(DataConfig())
    captions = [caption for label in range(10) for caption in manifest.captions(label)[:3]]
    owners = torch.arange(10).repeat_interleave(len(captions) // 10)
    return data.images.float() / 255, captions, data.labels[:, None] == owners[None]


@pytest.fixture(scope="module")
def texts(model, scene):
    return model.encode_texts(scene[1])


def sources():
    return [generator(0, "retrieval", place) for place in range(COUNT)]


@torch.no_grad()
def looked_up(model, images, captions, own):
    return retrieve(model.encode_images(images), captions, own)


def words(_, __):
    return ["shoe", "dress", "bag", "coat"]


def test_recall_is_counted_by_hand():
    images, captions = torch.eye(3), torch.tensor([[1.0, 0.1, 0], [0.1, 0, 1], [0, 1, 0.1]])
    own = torch.eye(3, dtype=torch.bool)
    found = retrieve(images, captions, own)
    assert found.texts[1].tolist() == [True, False, False]
    assert found.recalls() == {"tr@1": 1 / 3, "tr@5": 1, "tr@10": 1, "ir@1": 1 / 3, "ir@5": 1, "ir@10": 1}


def test_success_is_the_share_of_the_queries_that_were_right():
    right, wrong = torch.tensor([True, True, False]), torch.tensor([True, False, False])
    before, after = Retrieval({1: right}, {}), Retrieval({1: wrong}, {})
    assert before.success_rates(after) == {"tr@1": 0.5}


def test_an_image_attack_in_the_ball_loses_the_captions(model, scene, texts):
    images, _, own = scene
    attacked = attack_images(model, images, texts, own, THREAT, sources())
    clean, broken = looked_up(model, images, texts, own), looked_up(model, attacked, texts, own)
    assert (attacked - images).abs().max() <= THREAT.epsilon + 1e-6
    assert clean.recalls()["tr@1"] > 0.7
    assert clean.success_rates(broken)["tr@1"] > 0.5
    noise = THREAT.project(images + THREAT.draw(images, sources()), images)
    assert clean.success_rates(looked_up(model, noise, texts, own))["tr@1"] < 0.2


def test_the_whole_set_of_captions_is_aimed_at_not_the_first_alone(model, scene, texts):
    images, _, own = scene
    first = own & (own.cumsum(1) == 1)
    whole = attack_images(model, images, texts, own, THREAT, sources(), steps=3, scales=())
    single = attack_images(model, images, texts, first, THREAT, sources(), steps=3, scales=())

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
    before, after = (retrieve(features, model.encode_texts(each), own).recalls() for each in (captions, changed))
    assert after["ir@1"] < before["ir@1"]


def test_a_caption_without_candidates_stays(model, scene):
    images, captions, own = scene
    with torch.no_grad():
        features = model.encode_images(images)
    assert attack_captions(model, captions, features, own, lambda *_: []) == captions


def test_image_and_text_together_break_at_least_as_much_as_the_image_alone(model, scene, texts):
    images, captions, own = scene
    weak = Threat("linf", 1 / 255)
    alone = attack_images(model, images, texts, own, weak, sources(), steps=3)
    both, changed = attack_jointly(model, images, captions, own, weak, sources(), words, steps=3)
    clean = looked_up(model, images, texts, own)
    single = clean.success_rates(looked_up(model, alone, texts, own))
    joint = clean.success_rates(looked_up(model, both, model.encode_texts(changed), own))
    assert joint["tr@1"] >= single["tr@1"]
    assert joint["ir@1"] > single["ir@1"]
