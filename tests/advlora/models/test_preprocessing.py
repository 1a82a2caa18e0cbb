from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import transformers
from PIL import Image

from advlora.config import ModelConfig
from advlora.errors import ModelError
from advlora.models import Preprocessing, load_model
from advlora.models.preprocessing import of_processor

pytestmark = pytest.mark.unit

SHAPES = [(96, 32), (32, 96), (61, 47), (47, 60), (24, 24), (16, 16), (3, 5), (1, 40)]
"""Widths and heights: landscape, portrait, square, the model's own, tiny."""
PUBLISHED = {
    "ViT-B-32": "openai",
    "ViT-B-16-SigLIP": "webli",
    "ViT-B-16-SigLIP2": "webli",
    "ViT-L-14-CLIPA": "datacomp1b",
}
"""Architectures of open_clip, and weights whose recipes differ."""


def picture(width: int, height: int) -> Image.Image:
    """A smooth image with some noise, as photographs are."""
    source = np.random.default_rng(width * 1000 + height)
    coarse = Image.fromarray(source.integers(0, 256, (4, 4, 3), np.uint8)).resize((width, height), 3)
    noise = source.integers(-9, 10, (height, width, 3))
    return Image.fromarray((np.asarray(coarse).astype(int) + noise).clip(0, 255).astype(np.uint8))


def difference(ours: Image.Image, theirs: np.ndarray) -> int:
    """The largest difference in levels of 255; theirs is `(3, H, W)`."""
    return int(np.abs(np.asarray(ours).transpose(2, 0, 1).astype(int) - theirs).max())


def open_clip_folder(folder: Path, stock: torch.nn.Module, recipe: dict) -> ModelConfig:
    settings = json.loads((folder / "open_clip_config.json").read_text())
    (folder / "open_clip_config.json").write_text(json.dumps({**settings, "preprocess_cfg": recipe}))
    return ModelConfig(source="open_clip", name=f"local-dir:{folder}")


@pytest.mark.parametrize("name", [*PUBLISHED, "longest"])
def test_pixels_are_those_of_open_clip(folder: Path, stock, name: str) -> None:
    recipe = {"resize_mode": "longest", "fill_color": 7}
    if name in PUBLISHED:
        assert open_clip.get_model_config(name)
        recipe = open_clip.get_pretrained_cfg(name, PUBLISHED[name])
    kept = {key: recipe[key] for key in ("mean", "std", "interpolation", "resize_mode", "fill_color") if key in recipe}
    model = load_model(open_clip_folder(folder, stock, kept))
    theirs = open_clip.create_model_and_transforms(f"local-dir:{folder}")[2]
    for shape in SHAPES if name in PUBLISHED else SHAPES[:-1]:  # open_clip cannot scale a line to a width of 0.4 pixels
        image = picture(*shape)
        normalised = theirs(image)  # (3, H, W)
        levels = 255 * (normalised * model.std + model.mean)
        assert difference(model.preprocessing(image), levels.round().numpy()) == 0, shape


@pytest.mark.parametrize("family", ["clip", "siglip", "blip"])
def test_pixels_are_those_of_the_image_processor(tiny, family: str) -> None:
    model = load_model(tiny(family))
    levels = []
    for shape in SHAPES:
        image = picture(*shape)
        found = model.processor(image, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
        levels.append(difference(model.preprocessing(image), found))
    assert max(levels) <= 1, levels


@pytest.mark.parametrize("resample", [1, 2, 3])
def test_edge_and_interpolation_of_a_processor_count(resample: int) -> None:
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": 19}, crop_size={"height": 16, "width": 16}, resample=resample
    )
    recipe = of_processor(processor, 16)
    assert (recipe.edge, recipe.rounded) == (19, False)
    for shape in SHAPES[:5]:
        image = picture(*shape)
        found = processor(image, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
        assert difference(recipe(image), found) <= 1, shape


def test_an_interpolation_in_which_the_libraries_differ_is_refused() -> None:
    processor = transformers.SiglipImageProcessor(size={"height": 16, "width": 16}, resample=0)
    with pytest.raises(ModelError, match="interpolates by 'nearest'; known are bilinear, bicubic, lanczos"):
        of_processor(processor, 16)


def test_a_squashing_model_sees_the_sides_of_an_image(folder: Path, stock) -> None:
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, :16] = wide[:, -16:] = 255
    squashed = load_model(open_clip_folder(folder, stock, {"resize_mode": "squash"})).preprocessing
    assert np.asarray(squashed(Image.fromarray(wide)))[:, [0, -1]].min() > 200
    assert not np.asarray(Preprocessing(16)(Image.fromarray(wide))).any()


def test_an_image_of_the_models_size_stays_as_it_is() -> None:
    image = picture(16, 16)
    for recipe in (Preprocessing(16), Preprocessing(16, "squash", "bilinear"), Preprocessing(16, "longest")):
        assert np.array_equal(np.asarray(recipe(image)), np.asarray(image))


@pytest.mark.parametrize(
    "recipe",
    [
        {"size": {"height": 224, "width": 224}},
        {"size": {"height": 16, "width": 20}},
        {"size": {"shortest_edge": 16}, "do_center_crop": False},
        {"size": {"height": 16, "width": 16}, "do_resize": False},
        {"size": {"longest_edge": 16, "shortest_edge": 16}},
        {"size": {"shortest_edge": 12}, "do_center_crop": True, "crop_size": {"height": 16, "width": 16}},
    ],
    ids=str,
)
def test_a_processor_that_does_not_fit_the_model_is_refused_in_a_sentence(tiny, tmp_path: Path, recipe: dict) -> None:
    copied = shutil.copytree(tiny("blip").name.removeprefix("local-dir:"), tmp_path / "model")
    file = copied / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **recipe}))
    with pytest.raises(ModelError, match="BlipImageProcessor does not make the images of 16 x 16 pixels"):
        load_model(ModelConfig(source="transformers", name=f"local-dir:{copied}"))
