"""From the bytes of an image to pixels of the model's size."""

from __future__ import annotations

import io
import tarfile
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageOps

DAMAGE = (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What tarfile, gzip and Pillow raise on damaged bytes."""


def fit(content: bytes, size: int) -> np.ndarray[Any, Any]:
    """Decodes an image; one of another size is scaled (bicubic) and cropped at the centre.

    Returns:
        `(3, size, size)`, uint8.
    """
    with Image.open(io.BytesIO(content)) as image:
        return fit_image(image, size)


def fit_image(image: Image.Image, size: int) -> np.ndarray[Any, Any]:
    """Scales and crops an image as `fit` does."""
    colour = image.convert("RGB")
    if colour.size != (size, size):
        colour = ImageOps.fit(colour, (size, size), method=Image.Resampling.BICUBIC)
    return np.asarray(colour).transpose(2, 0, 1)  # (H, W, 3) -> (3, H, W)
