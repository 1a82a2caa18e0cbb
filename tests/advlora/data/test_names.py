"""Class names and templates of open_clip in place of a data set's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from open_clip import zero_shot_metadata

from advlora.config import DataConfig
from advlora.data import check_data, load_manifest, load_split
from advlora.data.manifest import Manifest
from advlora.data.names import named
from advlora.errors import DataError
from advlora.models import Preprocessing
from tests.advlora.data.test_layouts import picture

pytestmark = pytest.mark.unit


def manifest(count: int = 1000, task: str = "zero-shot") -> Manifest:
    classes = tuple(f"n{number}" for number in range(count))
    return Manifest.model_construct(name="imagenet", task=task, classes=classes, templates=("a {}",), splits={})


def refused(made: Manifest, **values) -> str:
    with pytest.raises(DataError) as raised:
        named(made, DataConfig(**values))
    (problem,) = raised.value.problems
    return problem


def test_imagenet_has_the_names_and_captions_of_open_clip() -> None:
    found = named(manifest(), DataConfig(classes="openai-imagenet", templates="openai"))
    assert found.classes == tuple(zero_shot_metadata.IMAGENET_CLASSNAMES)
    assert found.captions(207) == [fill(found.classes[207]) for fill in zero_shot_metadata.OPENAI_IMAGENET_TEMPLATES]
    assert len(found.captions(0)) == 80
    assert found.hash != manifest().hash
    assert named(manifest(), DataConfig()) is not None
    assert named(manifest(), DataConfig()).classes == manifest().classes


def test_names_that_do_not_fit_the_data_are_refused() -> None:
    assert "'openai-imagenet' names 1000 classes, but data set 'imagenet' has 3" in refused(
        manifest(3), classes="openai-imagenet"
    )
    sentence = refused(manifest(0, "retrieval"), templates="simple")
    assert sentence == "data.templates: data set 'imagenet' has captions instead; leave it out"


def test_folders_without_prompts_take_the_templates_that_are_named(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for value, label in enumerate(("hot_dog", "cat")):
            picture(tmp_path / split / label / "0.png", 10 * value)
    plain = DataConfig(name=str(tmp_path))
    (problem,) = check_data(plain)
    assert "holds no prompts.txt; write one prompt per line" in problem
    assert "data.templates: openai or simple" in problem
    config = DataConfig(name=str(tmp_path), templates="simple")
    assert check_data(config) == []
    assert load_manifest(config).captions(1)[0] == "itap of a hot dog."
    assert load_split(config, "test", Preprocessing(8)).captions == ("itap of a cat.", "itap of a hot dog.")
