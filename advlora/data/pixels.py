"""From the bytes of an image to pixels of the model's size, in the way of the model's own library."""

from __future__ import annotations

import io
import tarfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from advlora.models.preprocessing import Preprocessing

DAMAGE = (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What tarfile, gzip and Pillow raise on damaged bytes."""


SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
WIDE = ("I", "F")
"""Modes of Pillow whose range is not known, so that they cannot be shown in 8 bits; `convert` would cut them off."""


def fit(content: bytes, preprocessing: Preprocessing) -> np.ndarray[Any, Any]:
    """Decodes an image and brings it to a model's size.

    Returns:
        `(3, H, W)`, uint8.

    Raises:
        ValueError: If its pixels are 32-bit numbers.
    """
    with Image.open(io.BytesIO(content)) as image:
        return fit_image(image, preprocessing)


def fit_image(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray[Any, Any]:
    """Brings an image to a model's size as `fit` does."""
    return np.asarray(preprocessing(_colour(image))).transpose(2, 0, 1)  # (H, W, 3) -> (3, H, W)


def _colour(image: Image.Image) -> Image.Image:
    """Returns an image as RGB; 16-bit grey is scaled to 8 bits."""
    if image.mode in WIDE:
        raise ValueError(f"pixels of mode '{image.mode}' have 32 bits; save them with 8 or 16")
    if image.mode in SIXTEEN_BITS:
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))  # 65535 / 255 = 257
    return image.convert("RGB")
