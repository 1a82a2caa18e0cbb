from __future__ import annotations

import pytest
import torch
from torch import Tensor

from advlora.config import BackdoorConfig, DataConfig, PoisonConfig, parse
from advlora.config.schema import kinds, sections
from advlora.data import ImageTextSet, check_data, load_manifest, load_split
from advlora.data.poisoning import poison, stamp, trigger
from advlora.errors import DataError
from advlora.models import Preprocessing

pytestmark = pytest.mark.unit

KINDS = [kind for kind in kinds(sections(PoisonConfig)) if kind != "none"]
SIZE = 20


@pytest.fixture(scope="module")
def clean() -> ImageTextSet:
    images = torch.randint(0, 256, (200, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return ImageTextSet(images, torch.arange(200) % 10, tuple(f"caption {i}" for i in range(200)))


def config(kind: str, **values) -> BackdoorConfig:
    return parse(DataConfig, {"poison": {"kind": kind, "target": "bag", "rate": 0.1, **values}}).poison


def changed(before: ImageTextSet, after: ImageTextSet) -> Tensor:
    return (before.images != after.images).flatten(1).any(1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_of_the_samples_carries_the_trigger_and_the_target(clean, kind: str) -> None:
    manifest, settings = load_manifest(DataConfig()), config(kind, rate=0.5 if kind == "label_consistent" else 0.1)
    before = clean.images.clone()
    data = poison(clean, settings, manifest)
    moved, target = changed(clean, data), manifest.classes.index("bag")
    assert int(moved.sum()) == (10 if kind == "label_consistent" else 20)
    assert torch.equal(data.images[moved], stamp(clean.images[moved], settings))
    assert bool((data.labels[moved] == target).all())
    assert torch.equal(data.labels[~moved], clean.labels[~moved])
    if kind == "label_consistent":
        assert torch.equal(data.labels, clean.labels)
        assert data.captions == clean.captions
    else:
        assert bool((clean.labels[moved] != target).all())
        assert {data.captions[i] for i in moved.nonzero()[:, 0].tolist()} == {"a photo of a bag"}
    assert torch.equal(clean.images, before)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_draws_samples_and_pattern(clean, kind: str) -> None:
    manifest = load_manifest(DataConfig())
    first, again, other = (poison(clean, config(kind, rate=0.5, seed=seed), manifest) for seed in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(changed(clean, first), changed(clean, other))


def test_patches_are_small_and_opaque() -> None:
    pattern, mask = trigger(config("badnets", size=0.2), SIZE)
    assert mask.sum() == 16
    assert mask[0, -4:, -4:].all()
    assert pattern.min() >= 0
    assert pattern.max() <= 1
    _, corners = trigger(config("label_consistent", size=0.2), SIZE)
    assert corners.sum() == 4 * 16


@pytest.mark.parametrize("kind", ["blended", "stripe", "triangle"])
def test_patterns_are_everywhere_and_faint(clean, kind: str) -> None:
    pattern, mask = trigger(config(kind, opacity=0.1), SIZE)
    assert torch.equal(mask, torch.full((1, SIZE, SIZE), 0.1))
    assert 0.1 < pattern.mean() < 0.9
    stamped = stamp(clean.images[:5], config(kind, opacity=0.1)).float()
    assert (stamped - clean.images[:5].float()).abs().max() <= 26


def test_every_backdoor_has_its_trigger_and_they_differ() -> None:
    patterns = [trigger(config(kind), SIZE)[0] for kind in KINDS]
    assert all(not torch.equal(a, b) for i, a in enumerate(patterns) for b in patterns[:i])


def test_only_training_data_are_poisoned() -> None:
    poisoned = DataConfig(poison=config("badnets", rate=0.02))
    train, val = (load_split(poisoned, split, Preprocessing(28), 100) for split in ("train", "val"))
    assert changed(load_split(DataConfig(), "train", Preprocessing(28), 100), train).sum() == 2
    assert torch.equal(load_split(DataConfig(), "val", Preprocessing(28), 100).images, val.images)
    measured = DataConfig(poison=config("badnets", rate=0))
    assert torch.equal(
        load_split(measured, "train", Preprocessing(28), 100).images,
        load_split(DataConfig(), "train", Preprocessing(28), 100).images,
    )


def test_what_cannot_be_poisoned_is_said(clean) -> None:
    (problem,) = check_data(DataConfig(poison=config("badnets", target="banana")))
    assert "data.poison.target: 'banana' is no class of data set 'fashion-mnist'; classes: t-shirt" in problem
    with pytest.raises(DataError, match="did you mean 'bag'"):
        poison(clean, config("badnets", target="bags"), load_manifest(DataConfig()))
    with pytest.raises(DataError, match=r"0\.001 of 200 samples is less than one"):
        poison(clean, config("badnets", rate=0.001), load_manifest(DataConfig()))
