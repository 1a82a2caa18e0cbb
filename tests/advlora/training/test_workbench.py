from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from advlora.config import DataConfig, ModelConfig
from advlora.data import load_manifest, load_split
from advlora.distributed import Group
from advlora.errors import DataError, ModelError, UserError
from advlora.models import Preprocessing, VisionLanguageModel, load_model
from advlora.models.open_clip import OpenClipModel
from advlora.training import features
from advlora.training import workbench as module
from advlora.training.workbench import Workbench
from tests.limits import files_of_at_most

pytestmark = pytest.mark.unit

MODEL, DATA = ModelConfig(), DataConfig()
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pretrained():
    return load_model(MODEL)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_a_trial_cannot_change_the_model_that_the_next_one_gets(bench, pretrained):
    first = bench.model(MODEL)
    first.requires_grad_(True).train()
    for tensor in (*first.parameters(), *first.buffers()):
        tensor.data.fill_(0.5)
    first.clip.visual.transformer.resblocks[0].mlp = torch.nn.Identity()
    second = bench.model(MODEL)
    assert second is not first
    assert not second.training
    assert not any(parameter.requires_grad for parameter in second.parameters())
    torch.testing.assert_close(weights(second), weights(pretrained), rtol=0, atol=0)


def test_frozen_features_come_from_the_pretrained_model_whatever_trials_did(pretrained):
    bench = Workbench()
    for parameter in bench.model(MODEL).parameters():
        parameter.data.zero_()
    expected = normalize(pretrained.encode_texts(["a dress"]), dim=-1)
    torch.testing.assert_close(bench.text_features(MODEL, ("a dress",)), expected, rtol=0, atol=0)


def test_everything_is_loaded_once(monkeypatch):
    bench, calls = Workbench(), []

    def counted(name):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *arguments: calls.append(name) or original(*arguments))

    counted("load_model")
    counted("load_split")
    for _ in range(2):
        bench.model(MODEL)
        data = bench.split(DATA, "val", Preprocessing(28), 40)
        bench.class_features(MODEL, DATA)
        bench.image_features(MODEL, data, CPU)
    assert calls == ["load_model", "load_split"]
    bench.split(DATA, "val", Preprocessing(28), 39)
    assert calls == ["load_model", "load_split", "load_split"]


def test_a_split_is_the_beginning_of_what_the_shards_hold(bench):
    ours, whole = bench.split(DATA, "val", Preprocessing(28), 5), load_split(DATA, "val", Preprocessing(28), 20)
    assert len(ours) == 5
    assert torch.equal(ours.images, whole.images[:5])
    assert ours.captions == whole.captions[:5]
    assert bench.split(DATA, "test", Preprocessing(28), 5).captions != ours.captions


def test_class_features_are_unit_means_over_the_templates(bench, pretrained):
    found, manifest = bench.class_features(MODEL, DATA), load_manifest(DATA)
    assert found.shape == (len(manifest.classes), pretrained.embed_dim)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(len(found)))
    for label in (0, len(found) - 1):
        texts = [pretrained.encode_texts([caption])[0] for caption in manifest.captions(label)]
        mean = torch.stack([text / text.norm() for text in texts]).mean(0)
        torch.testing.assert_close(found[label], mean / mean.norm(), rtol=0, atol=1e-5)


def test_text_features_are_unit_and_in_the_order_of_the_captions(bench):
    captions = ("a boot", "a dress", "a boot")
    found = bench.text_features(MODEL, captions)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(found[0], found[2])
    torch.testing.assert_close(found[:2].flip(0), bench.text_features(MODEL, captions[1::-1]), rtol=0, atol=1e-5)


def test_image_features_are_raw_embeddings_in_chunks_and_follow_the_set(bench, pretrained, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 4)
    for count in (10, 6, 10):
        data = bench.split(DATA, "train", Preprocessing(28), count)
        found = bench.image_features(MODEL, data, CPU)
        expected = pretrained.encode_images(data.images.float() / 255)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        assert not found.requires_grad


def test_images_stream_through_the_device(bench, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 4)
    embed, held = VisionLanguageModel.embed, []

    def watched(model, images):
        assert images.dtype == torch.float32
        assert all(earlier() is None for earlier in held), "an earlier chunk is still there"
        held.append(weakref.ref(images))
        return embed(model, images)

    monkeypatch.setattr(VisionLanguageModel, "embed", watched)
    bench.image_features(MODEL, bench.split(DATA, "train", Preprocessing(28), 11), CPU)
    assert len(held) == 3


@pytest.fixture
def cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("ADVLORA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_text_features_are_kept_for_the_next_process(cache: Path, monkeypatch):
    first = Workbench().class_features(MODEL, DATA)
    (file,) = cache.rglob("*.*")
    assert (file.parent.name, file.suffix) == ("texts", ".safetensors")
    monkeypatch.delattr(OpenClipModel, "embed_texts")  # nothing is embedded again
    assert torch.equal(Workbench().class_features(MODEL, DATA), first)


def test_text_features_of_other_weights_or_captions_are_others(cache: Path, pretrained):
    names = {
        features.text_key(MODEL, weights, captions, torch.device(device))
        for weights in ("one", "other")
        for captions in (("a boot",), ("a boot", "a dress"), ("a boot\na dress",))
        for device in ("cpu", "cuda")
    }
    assert len(names) == 12
    before = features.text_weights(pretrained)
    changed = Workbench().model(MODEL)
    changed.vision.get_parameter("class_embedding").data += 1
    assert features.text_weights(changed) == before
    changed.clip.get_parameter("token_embedding.weight").data[0, 0] += 1
    assert features.text_weights(changed) != before


def test_a_full_disk_is_one_sentence_and_nothing_that_was_computed_is_lost(cache: Path, monkeypatch):
    bench = Workbench()
    with files_of_at_most(100), pytest.raises(UserError, match=r"cannot write to .*texts': File too large; free space"):
        bench.text_features(MODEL, ("a dress",))
    assert list(cache.rglob("*.*")) == []
    monkeypatch.delattr(OpenClipModel, "embed_texts")
    assert bench.text_features(MODEL, ("a dress",)).shape == (1, 128)


class Alone(Group):
    """A process of a group that hears nothing of the others."""

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor


@pytest.mark.parametrize("count", [1, 4, 11, 16])
def test_processes_embed_the_same_chunks_and_none_twice(count: int, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 4)
    chunks = []

    def embed(positions: torch.Tensor) -> torch.Tensor:
        chunks.append(positions.tolist())
        return positions[:, None] + torch.ones(1, 2)

    shares = [features.in_shares(count, 2, embed, CPU, Alone(rank, 3)) for rank in range(3)]
    assert torch.equal(sum(shares), 1.0 + torch.arange(count)[:, None].expand(-1, 2))
    assert sorted(chunks) == [part.tolist() for part in torch.arange(count).split(4)]


def test_what_is_unknown_is_an_error_each_time(bench):
    for _ in range(2):
        with pytest.raises(ModelError):
            bench.model(ModelConfig(name="absent"))
        with pytest.raises(DataError):
            bench.split(DataConfig(name="absent"), "val", Preprocessing(28))
