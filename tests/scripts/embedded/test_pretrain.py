from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors import safe_open

from scripts.embedded import pretrain
from scripts.embedded.captions import train_tokenizer
from scripts.embedded.sources import Domain

pytestmark = pytest.mark.unit


def domain(name: str, concepts: list[str], value: int) -> Domain:
    images = np.full((len(concepts), 28, 28, 3), value, np.uint8)
    images[..., 0] = np.arange(len(concepts))[:, None, None]
    return Domain(name, images, concepts)


@pytest.fixture
def domains() -> list[Domain]:
    return [
        domain("fashion", ["coat", "bag"] * 4, 10),
        domain("emoji", ["cat", "dog", "pig"] * 3, 20),
        domain("shapes", ["red circle"] * 8, 30),
    ]


@pytest.fixture
def folder(domains: list[Domain], tmp_path: Path) -> Path:
    pretrain.write_config(tmp_path)
    train_tokenizer({part.name: part.concepts for part in domains}, tmp_path)
    return tmp_path


@pytest.fixture
def tokens(domains: list[Domain], folder: Path) -> dict[str, torch.Tensor]:
    return pretrain.tokenize(domains, folder)


def test_batches_of_one_seed_are_equal_and_of_another_differ(domains, tokens) -> None:
    def first(seed: int) -> list[torch.Tensor]:
        batches = pretrain.Batches(domains, tokens, 8, seed)
        return [part for _ in range(5) for part in batches.draw()]

    assert all(torch.equal(a, b) for a, b in zip(first(0), first(0), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first(0), first(1), strict=True))


def test_a_batch_holds_one_domain_and_each_image_its_own_caption(domains, tokens) -> None:
    batches = pretrain.Batches(domains, tokens, 8, 0)
    seen = set()
    for _ in range(30):
        images, captions, concepts = batches.draw()
        assert images.shape == (8, 3, 28, 28)
        assert float(images.min()) >= 0
        assert float(images.max()) <= 1
        (value,) = (255 * images[:, 1]).round().unique().int().tolist()
        part = domains[value // 10 - 1]
        seen.add(part.name)
        names = sorted(set(part.concepts))
        rows = (255 * images[:, 0, 0, 0]).round().int().tolist()
        assert [part.concepts[row] for row in rows] == [names[concept] for concept in concepts.tolist()]
        for caption, concept in zip(captions, concepts, strict=True):
            assert (tokens[part.name][concept] == caption).all(1).any()
    assert seen == {"fashion", "emoji", "shapes"}


def test_loss_is_least_when_equal_concepts_have_equal_features() -> None:
    concepts = torch.tensor([0, 0, 1])
    aligned = torch.eye(2)[concepts]
    scale = torch.tensor(50.0)
    # Two positives share the target of a pair, so the floor is their entropy: log 2 for two of the three pairs.
    floor = 2 / 3 * torch.log(torch.tensor(2.0))
    assert torch.isclose(pretrain.contrastive_loss(aligned, aligned, scale, concepts), floor)
    assert pretrain.contrastive_loss(aligned, aligned.roll(1, 0), scale, concepts) > floor + 1


def test_a_few_steps_change_the_weights_and_record_themselves(domains, folder, tokens) -> None:
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    before = model.visual.proj.detach().clone()
    arguments = pretrain.parser().parse_args(["--steps", "3", "--batch-size", "8", "--out", str(folder)])
    pretrain.train(model, pretrain.Batches(domains, tokens, 8, 0), arguments)
    assert not torch.equal(model.visual.proj, before)
    file = folder / "open_clip_model.safetensors"
    with safe_open(file, "pt") as weights:
        assert weights.metadata() == {"format": "pt", "steps": "3", "batch_size": "8"}
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE((folder / "open_clip_config.json").stat().st_mode)
    loaded = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True)
    assert torch.equal(loaded.visual.proj, model.visual.proj)
