"""Frames of a video, sampled uniformly: from extracted frames, an animated image, or a file that PyAV decodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageSequence

from advlora.data.pixels import fit, fit_image
from advlora.errors import DataError

if TYPE_CHECKING:
    from advlora.models.preprocessing import Preprocessing

ANIMATED = (".gif", ".webp", ".png")
SUFFIXES = (".mp4", ".avi", ".webm", ".mkv", *ANIMATED)
FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")


def frames(file: Path, count: int, preprocessing: Preprocessing) -> np.ndarray[Any, Any]:
    """Reads frames from the middles of `count` equal parts of a video; a short one repeats frames.

    Args:
        file: A folder of frames in the order of their names, or a video.
        count: F.
        preprocessing: How frames are brought to the model's size.

    Returns:
        `(F, 3, H, W)`, uint8.

    Raises:
        DataError: If there is no frame, or PyAV is needed and missing.
    """
    if file.is_dir():
        names = sorted(part for part in file.iterdir() if part.suffix.lower() in FRAME_SUFFIXES)
        return np.stack([fit(names[place].read_bytes(), preprocessing) for place in _places(file, len(names), count)])
    pictures = _animated(file, preprocessing) if file.suffix.lower() in ANIMATED else _decoded(file, preprocessing)
    return np.stack([pictures[place] for place in _places(file, len(pictures), count)])


def _places(file: Path, length: int, count: int) -> list[int]:
    if not length:
        raise DataError(f"video '{file}' has no frames")
    return [int((place + 0.5) * length / count) for place in range(count)]


def _animated(file: Path, preprocessing: Preprocessing) -> list[np.ndarray[Any, Any]]:
    with Image.open(file) as image:
        return [fit_image(frame, preprocessing) for frame in ImageSequence.Iterator(image)]


def _decoded(file: Path, preprocessing: Preprocessing) -> list[np.ndarray[Any, Any]]:
    try:
        import av
    except ImportError as error:
        raise DataError(
            f"decoding '{file}' needs PyAV: pip install av, or extract the frames into a folder frames/{file.stem}/"
        ) from error
    with av.open(str(file)) as container:
        return [fit_image(frame.to_image(), preprocessing) for frame in container.decode(video=0)]
