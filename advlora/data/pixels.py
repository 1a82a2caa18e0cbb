"""From the bytes of an image to pixels of the model's size, in the way of the model's own library."""

from __future__ import annotations

import io
import tarfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

if TYPE_CHECKING:
    from advlora.models.preprocessing import Preprocessing

DAMAGE = (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What tarfile, gzip and Pillow raise on damaged bytes."""

SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
WIDE = ("I", "F")
"""Modes of Pillow whose range is not known, so that they cannot be shown in 8 bits; `convert` would cut them off."""
LFS_POINTER = b"version https://git-lfs"


def fit(content: bytes, preprocessing: Preprocessing) -> np.ndarray[Any, Any]:
    """Decodes an image and brings it to a model's size.

    Returns:
        `(3, H, W)`, uint8.

    Raises:
        ValueError: If it is no image that Pillow reads, or its pixels are 32-bit numbers.
        OSError: If it is damaged.
    """
    return _array(preprocessing(opened(content)))


def fit_image(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray[Any, Any]:
    """Brings an image to a model's size as `fit` does."""
    return _array(preprocessing(_colour(image)))


def opened(content: bytes) -> Image.Image:
    """Decodes an image to upright RGB; raises what `fit` raises."""
    if not content:
        raise ValueError("it is empty")
    if content.startswith(LFS_POINTER):
        raise ValueError("it is a pointer of Git LFS; fetch the file itself with 'git lfs pull'")
    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        raise ValueError(f"it is no image that Pillow reads; it begins with {content[:12]!r}") from None
    with image:
        ImageOps.exif_transpose(image, in_place=True)
        return _colour(image)


def _array(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image).transpose(2, 0, 1)  # (H, W, 3) -> (3, H, W)


def _colour(image: Image.Image) -> Image.Image:
    """Returns an image as RGB; 16-bit grey is scaled to 8 bits, what is transparent lies on white."""
    if image.mode in WIDE:
        raise ValueError(f"pixels of mode '{image.mode}' have 32 bits; save them with 8 or 16")
    if image.mode in SIXTEEN_BITS:
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))  # 65535 / 255 = 257
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
