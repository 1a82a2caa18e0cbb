from __future__ import annotations

import gzip
import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from advlora.config import DataConfig
from advlora.data import check_data, load_split
from advlora.errors import DataError
from advlora.models import Preprocessing
from tests.advlora.data.shard_files import grey, image_bytes

pytestmark = pytest.mark.unit


def load(folder, split="val", size=8, limit=None):
    return load_split(DataConfig(name=str(folder.path)), split, Preprocessing(size), limit)


def test_the_embedded_split_is_what_its_captions_say():
    data = load_split(DataConfig(), "val", Preprocessing(28), 300)
    assert data.images.shape == (300, 3, 28, 28)
    assert data.images.dtype == torch.uint8
    assert data.labels.dtype == torch.int64
    assert len(data) == 300
    assert set(data.labels.tolist()) == set(range(10))
    names = ["t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
    assert all(names[label] in caption for label, caption in zip(data.labels.tolist(), data.captions, strict=True))


def test_shards_are_read_in_order_compressed_or_not(folder):
    data = load(folder, "train")
    assert data.images[:, :, 0, 0].tolist() == [[10 * i] * 3 for i in range(6)]
    assert data.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert data.captions == tuple(f"caption {i}" for i in range(6))


def test_a_limit_takes_the_first_samples_and_opens_no_further_shard(folder):
    (folder.path / "b.tar.gz").unlink()
    assert load(folder, "train", limit=3).labels.tolist() == [0, 1, 0]
    with pytest.raises(DataError, match=r"b\.tar\.gz"):
        load(folder, "train")


def test_colour_jpeg_is_decoded_within_its_own_error(folder):
    colour = np.zeros((8, 8, 3), np.uint8)
    colour[...] = (200, 100, 50)
    folder.replace_val([{"jpg": image_bytes(colour, "JPEG"), "cls": b"1"}])
    pixel = load(folder).images[0, :, 4, 4].float()
    assert (pixel - torch.tensor([200.0, 100.0, 50.0])).abs().max() <= 3


def test_without_a_caption_the_first_template_is_filled(folder):
    folder.replace_val([{"png": grey(0), "cls": b"1"}])
    assert load(folder).captions == ("a dog",)


def test_another_size_is_scaled_and_cropped_to_the_middle(folder):
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 255
    folder.replace_val([{"png": image_bytes(wide), "cls": b"0"}])
    image = load(folder, size=4).images[0]
    assert image.shape == (3, 4, 4)
    assert image.float().mean() > 230


def test_sixteen_bits_of_grey_are_scaled_to_eight(folder):
    ramp = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    folder.replace_val([{"png": image_bytes(ramp), "cls": b"0"}])
    found = load(folder).images[0].numpy()
    assert np.array_equal(found, np.repeat((ramp / 257).round().astype(np.uint8)[None], 3, 0))


def test_grey_of_unknown_range_is_refused_by_name(tmp_path):
    (tmp_path / "test" / "cat").mkdir(parents=True)
    (tmp_path / "test" / "dog").mkdir()
    (tmp_path / "prompts.txt").write_text("a {}")
    for number, name in enumerate(("cat", "dog")):
        pixels = Image.fromarray(np.full((8, 8), 70000.0 * number, np.float32))
        pixels.save(tmp_path / "test" / name / "0.png", format="TIFF")
    with pytest.raises(DataError, match=r"0\.png' cannot be read: pixels of mode 'F' have 32 bits"):
        load_split(DataConfig(name=str(tmp_path), layout="folders"), "test", Preprocessing(8))


@pytest.mark.parametrize("damage", ["missing", "changed", "truncated"])
def test_a_bad_shard_is_named(folder, damage):
    file = folder.path / "val.tar"
    if damage == "missing":
        file.unlink()
    elif damage == "changed":
        content = bytearray(file.read_bytes())
        content[600] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(DataError, match=r"val\.tar"):
        load(folder)


def test_a_truncated_archive_is_named_even_if_its_hash_was_taken_so(folder):
    file = folder.path / "b.tar.gz"
    file.write_bytes(file.read_bytes()[:60])
    folder.pin("b.tar.gz")
    with pytest.raises(DataError, match=r"b\.tar\.gz.*damaged"):
        load(folder, "train")


def test_a_shard_with_too_few_samples_is_named(folder):
    content = gzip.decompress((folder.path / "b.tar.gz").read_bytes())
    (folder.path / "b.tar.gz").write_bytes(gzip.compress(content[: 3 * 1024] + bytes(1024)))
    folder.pin("b.tar.gz")
    with pytest.raises(DataError, match=r"b\.tar\.gz.* holds 1 samples, the manifest says 2"):
        load(folder, "train")


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        ({"png": b"no image", "cls": b"0"}, "damaged"),
        ({"cls": b"0"}, r"sample 0000: lacks an image; it holds \.cls, images are \.jpg"),
        ({"png": grey(0)}, r"lacks its \.cls"),
        ({"png": grey(0), "cls": b"2"}, "has class 2, there are 2"),
        ({"png": grey(0), "cls": b"-1"}, "has class -1"),
        ({"png": grey(0), "cls": b"cat"}, "damaged"),
    ],
)
def test_a_sample_that_makes_no_sense_is_a_data_error(folder, sample, reason):
    folder.replace_val([sample])
    with pytest.raises(DataError, match=reason):
        load(folder)


@pytest.mark.parametrize("suffix", ["webp", "PNG", "JPG", "tif", "front.png", "bmp"])
def test_images_of_every_usual_suffix_are_found_in_a_shard(folder, suffix):
    folder.replace_val([{suffix: grey(90), "cls": b"1", "json": b"{}"}])
    assert check_data(DataConfig(name=str(folder.path))) == []
    assert load(folder).images[0, 0, 0, 0] == 90


def test_files_of_tools_in_a_shard_are_left_out(folder):
    folder.replace_val([{"png": grey(90), "cls": b"1\n"}])
    with tarfile.open(folder.path / "val.tar", "a") as archive:
        for name in ("._0000.png", "__MACOSX/a/._0000.png", "a/.DS_Store", "a/.ipynb_checkpoints/0000.png"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    folder.pin("val.tar")
    assert check_data(DataConfig(name=str(folder.path))) == []
    assert load(folder).labels.tolist() == [1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_captions_are_read_in_every_encoding_that_says_what_it_is(folder, encoding):
    folder.replace_val([{"png": grey(0), "cls": b"1", "txt": "naïve".encode(encoding)}])
    assert load(folder).captions == ("naïve",)


def test_an_unknown_split_gets_the_nearest_known_one(folder):
    with pytest.raises(DataError, match="did you mean 'test'"):
        load(folder, "tests")
