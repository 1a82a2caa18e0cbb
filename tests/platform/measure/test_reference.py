from __future__ import annotations

import json
import shutil

import open_clip
import pytest
import torch

from advlora.config import ModelConfig
from advlora.errors import UserError
from advlora.models import load_model
from advlora_platform.measure import load_subject
from advlora_platform.measure.reference import model_config, name_of, weights_hash
from tests.advlora.tiny_transformers import written

pytestmark = pytest.mark.unit

PIXELS = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def same(one, other) -> bool:
    return torch.allclose(one.encode_images(PIXELS), other.encode_images(PIXELS), rtol=1e-4, atol=1e-4)


def refused(*arguments) -> str:
    with pytest.raises(UserError) as caught:
        load_subject(*arguments)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


@pytest.fixture(scope="module")
def plain():
    return load_model(ModelConfig())


@pytest.fixture
def tower(trained):
    """The state of the vision tower alone, as the authors of robust CLIP models give it."""
    return load_model(model_config(str(trained / "merged")), split=False).vision.state_dict()


@pytest.fixture
def vision_file(tower, tmp_path):
    torch.save(tower, tmp_path / "fare.pt")
    return tmp_path / "fare.pt"


def test_what_a_training_wrote_its_adapter_and_its_merged_weights_are_one_model(trained, plain):
    found = {part: load_subject(str(trained / part)) for part in ("", "adapter", "merged")}
    assert [subject.kind for subject in found.values()] == ["trained", "adapter", "checkpoint"]
    assert {subject.base for subject in found.values()} == {ModelConfig()}
    for subject in found.values():
        assert same(subject.network, found[""].network)
        assert not same(subject.network, plain)
        assert not any(parameter.requires_grad for parameter in subject.network.parameters())
    assert found[""].name == "/".join(trained.parts[-2:])


def test_an_adapter_that_was_carried_away_needs_its_base_by_name(trained, tmp_path):
    away = shutil.copytree(trained / "adapter", tmp_path / "away")
    assert "name its pretrained model with --base NAME" in refused(str(away))
    assert same(load_subject(str(away), "tiny-clip").network, load_subject(str(trained)).network)


def test_half_of_an_adapter_is_not_taken_for_the_whole(trained, tmp_path):
    half = shutil.copytree(trained / "adapter", tmp_path / "adapter-text")
    assert "is the text tower's part of an adapter" in refused(str(half), "tiny-clip")
    other = shutil.copytree(trained / "adapter-transformers", tmp_path / "adapter-transformers")
    assert f"is the adapter for transformers' model; name '{tmp_path / 'adapter'}'" in refused(str(other), "tiny-clip")


def test_a_file_of_a_vision_tower_is_laid_onto_its_base(vision_file, trained, plain):
    subject = load_subject(str(vision_file), "tiny-clip")
    assert (subject.kind, subject.base) == ("vision weights", ModelConfig())
    assert same(subject.network, load_subject(str(trained)).network)
    assert torch.equal(subject.network.encode_texts(["a boot"]), plain.encode_texts(["a boot"]))


def test_the_file_that_tecoas_training_writes_is_found_below_the_home_folder(tower, trained, tmp_path, monkeypatch):
    torch.save({"state_dict": {}, "vision_encoder_state_dict": tower, "epoch": 3}, tmp_path / "tecoa.pth.tar")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WEIGHTS", str(tmp_path))
    for reference in ("~/tecoa.pth.tar", "$WEIGHTS/tecoa.pth.tar"):
        assert same(load_subject(reference, "tiny-clip").network, load_subject(str(trained)).network)


def test_a_file_that_does_not_say_enough_or_does_not_fit_is_one_sentence(vision_file, trained, tmp_path):
    assert "name the pretrained model with --base NAME" in refused(str(vision_file))
    whole = trained / "merged" / "open_clip_model.safetensors"
    assert "does not hold the vision tower of 'tiny-clip'" in refused(str(whole), "tiny-clip")
    (tmp_path / "x.pt").write_text("no weights")
    assert "x.pt' cannot be read" in refused(str(tmp_path / "x.pt"), "tiny-clip")
    base = written("clip", tmp_path / "hub")
    assert "is one of transformers" in refused(str(vision_file), base.name.removeprefix("local-dir:"))


def test_a_checkpoint_file_of_a_whole_open_clip_model_is_named_with_its_architecture(tmp_path, monkeypatch):
    factory = open_clip.factory
    for registry in ("_MODEL_CONFIG_PATHS", "_MODEL_CONFIGS"):
        monkeypatch.setattr(factory, registry, getattr(factory, registry).copy())
    (tmp_path / "ViT-minute.json").write_text(
        json.dumps(
            {
                "embed_dim": 24,
                "vision_cfg": {"image_size": 28, "layers": 1, "width": 32, "head_width": 16, "patch_size": 14},
                "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
            }
        )
    )
    open_clip.add_model_config(tmp_path / "ViT-minute.json")
    clip = open_clip.create_model("ViT-minute")
    torch.save({"state_dict": clip.state_dict()}, tmp_path / "tecoa_eps_4.pt")
    subject = load_subject(f"ViT-minute:{tmp_path / 'tecoa_eps_4.pt'}")
    assert (subject.kind, subject.name, subject.base) == ("checkpoint", "ViT-minute:tecoa_eps_4", None)
    normalised = (PIXELS - subject.network.mean) / subject.network.std
    assert torch.allclose(subject.network.encode_images(PIXELS), clip.encode_image(normalised), atol=1e-4)
    torch.save(clip.visual.state_dict(), tmp_path / "tower.pt")
    assert "are named FILE --base NAME" in refused(f"ViT-minute:{tmp_path / 'tower.pt'}")


def test_an_embedded_model_is_its_own_base(plain):
    subject = load_subject("tiny-clip")
    assert (subject.kind, subject.name, subject.base, subject.changed) == (
        "pretrained",
        "tiny-clip",
        ModelConfig(),
        False,
    )
    assert weights_hash(subject.network) == weights_hash(plain)


def test_a_folder_of_transformers_is_a_model_too(tmp_path):
    config = written("clip", tmp_path / "hub")
    subject = load_subject(str(tmp_path / "hub"))
    assert (subject.kind, subject.base) == ("checkpoint", None)
    assert weights_hash(subject.network) == weights_hash(load_model(config))


@pytest.mark.parametrize(
    ("reference", "expected", "name"),
    [
        ("embedded:tiny-clip", {"source": "embedded", "name": "tiny-clip"}, "tiny-clip"),
        (
            "ViT-B-32:laion2b_e16",
            {"source": "open_clip", "name": "ViT-B-32", "pretrained": "laion2b_e16"},
            "ViT-B-32:laion2b_e16",
        ),
        ("hf-hub:org/fare", {"source": "open_clip", "name": "hf-hub:org/fare"}, "hf-hub:org/fare"),
        ("open_clip:hf-hub:org/fare", {"source": "open_clip", "name": "hf-hub:org/fare"}, "hf-hub:org/fare"),
        (
            "open_clip:ViT-B-32:a/b.pt",
            {"source": "open_clip", "name": "ViT-B-32", "pretrained": "a/b.pt"},
            "ViT-B-32:a/b.pt",
        ),
        ("transformers:org/clip", {"source": "transformers", "name": "org/clip"}, "org/clip"),
        (
            "transformers:org/clip:v2",
            {"source": "transformers", "name": "org/clip", "pretrained": "v2"},
            "org/clip:v2",
        ),
    ],
)
def test_names_say_library_name_and_tag(reference, expected, name):
    config = model_config(reference)
    assert config == ModelConfig(**expected)
    assert name_of(config) == name


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("tiny-clop", "did you mean 'tiny-clip'?"),
        ("VIT-B32:openai", "did you mean 'ViT-B-32'?"),
        ("org/clip", "transformers:NAME"),
        ("ViT-B-32:absent.pt", "'absent.pt' does not exist"),
    ],
)
def test_an_unknown_name_is_one_sentence(reference, said):
    assert said in refused(reference)


def test_a_folder_without_a_model_says_what_was_looked_for(tmp_path):
    assert "trained.json, adapter_config.json, open_clip_config.json or config.json" in refused(str(tmp_path))


def test_one_weight_makes_other_weights():
    model = load_model(ModelConfig())
    before = weights_hash(model)
    with torch.no_grad():
        model.vision.get_parameter("proj")[0, 0] += 1e-3
    assert weights_hash(model) != before
