"""Images of every kind become upright RGB in [0, 255]."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from advlora.data.pixels import fit, opened
from advlora.models import Preprocessing

pytestmark = pytest.mark.unit
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)


def saved(image: Image.Image, kind: str = "PNG", **values: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **values)
    return buffer.getvalue()


def colour(content: bytes) -> tuple[int, ...]:
    """The colour of the pixel at the top left."""
    return tuple(int(value) for value in fit(content, Preprocessing(4))[:, 0, 0])


def half_red() -> Image.Image:
    """Red above, black below."""
    image = Image.new("RGB", (8, 8))
    image.paste(RED, (0, 0, 8, 4))
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_stands_upright_whatever_the_camera_was_held_like(orientation: int) -> None:
    stored = {
        1: half_red(),
        2: half_red().transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: half_red().transpose(Image.Transpose.ROTATE_180),
        4: half_red().transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: half_red().transpose(Image.Transpose.TRANSPOSE),
        6: half_red().transpose(Image.Transpose.ROTATE_90),
        7: half_red().transpose(Image.Transpose.TRANSVERSE),
        8: half_red().transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind, values in (("PNG", {}), ("JPEG", {"quality": 95, "subsampling": 0})):
        upright = opened(saved(stored, kind, exif=exif, **values))
        assert upright.getpixel((4, 0))[0] > 240
        assert max(upright.getpixel((4, 7))) < 15


def test_what_is_transparent_lies_on_white() -> None:
    assert colour(saved(Image.new("RGBA", (8, 8), (*BLACK, 0)))) == WHITE
    assert colour(saved(Image.new("RGBA", (8, 8), (*RED, 255)))) == RED
    assert colour(saved(Image.new("RGBA", (8, 8), (*BLACK, 128)))) == (127, 127, 127)
    assert colour(saved(Image.new("LA", (8, 8), (0, 0)))) == WHITE
    assert colour(saved(Image.new("RGB", (8, 8), BLACK), transparency=BLACK)) == WHITE
    assert colour(saved(Image.new("RGB", (8, 8), RED), transparency=BLACK)) == RED


def test_palettes_are_read_with_their_transparency() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([*WHITE, *RED, *BLACK])
    assert colour(saved(image)) == colour(saved(image, "GIF")) == RED
    assert colour(saved(image, transparency=1)) == WHITE
    assert colour(saved(image, transparency=2)) == RED


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", RED),
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF", RED),
        (Image.new("1", (8, 8), 1), "PNG", WHITE),
        (Image.new("L", (8, 8), 90), "PNG", (90, 90, 90)),
        (Image.new("YCbCr", (8, 8), (76, 85, 255)), "TIFF", RED),
        (Image.fromarray(np.full((8, 8), 257 * 90, np.uint16)), "PNG", (90, 90, 90)),
        (Image.fromarray(np.full((8, 8), 257 * 90, np.uint16)), "TIFF", (90, 90, 90)),
    ],
)
def test_every_mode_of_colour_is_brought_to_rgb(image: Image.Image, kind: str, expected: tuple[int, ...]) -> None:
    assert np.abs(np.subtract(colour(saved(image, kind)), expected)).max() <= 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"<html>Not found", r"it is no image that Pillow reads; it begins with b'<html>Not fo'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
        (saved(NOISE)[:3000], "(?i)truncated"),
        (saved(NOISE, "JPEG")[:1500], "(?i)truncated"),
        (saved(NOISE, "TIFF")[:3000], ""),
        (saved(NOISE, "WEBP")[:1500], ""),
        (saved(NOISE, "BMP")[:3000], "(?i)truncated"),
    ],
    ids=["empty", "html", "lfs", "png", "jpeg", "tiff", "webp", "bmp"],
)
def test_what_is_no_image_has_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises((ValueError, OSError), match=reason):
        fit(content, Preprocessing(4))
