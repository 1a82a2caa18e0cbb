"""Frames of a video, sampled uniformly: from extracted frames, an animated image, or a file that PyAV decodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from PIL import Image, ImageSequence

from advlora.data.files import of_a_tool
from advlora.data.pixels import opened
from advlora.errors import DataError

Made = TypeVar("Made")

ANIMATED = (".gif", ".webp", ".png")
SUFFIXES = (".mp4", ".avi", ".webm", ".mkv", *ANIMATED)
FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")


def frames(file: Path, count: int, make: Callable[[Image.Image], Made]) -> list[Made]:
    """Reads frames from the middles of `count` equal parts of a video; a short one repeats frames.

    Args:
        file: A folder of frames in the order of their names, or a video.
        count: F.
        make: What becomes of a frame; a whole video is not kept as it was decoded.

    Raises:
        DataError: If there is no frame, or PyAV is needed and missing.
    """
    if file.is_dir():
        names = sorted(part for part in file.iterdir() if _is_frame(part))
        return [make(opened(names[place].read_bytes())) for place in _places(file, len(names), count)]
    pictures = [make(frame) for frame in (_animated(file) if file.suffix.lower() in ANIMATED else _decoded(file))]
    return [pictures[place] for place in _places(file, len(pictures), count)]


def _is_frame(file: Path) -> bool:
    return file.suffix.lower() in FRAME_SUFFIXES and not of_a_tool(file.name)


def _places(file: Path, length: int, count: int) -> list[int]:
    if not length:
        raise DataError(f"video '{file}' has no frames")
    return [int((place + 0.5) * length / count) for place in range(count)]


def _animated(file: Path) -> Iterator[Image.Image]:
    with Image.open(file) as image:
        yield from ImageSequence.Iterator(image)


def _decoded(file: Path) -> Iterator[Image.Image]:
    try:
        import av
    except ImportError as error:
        raise DataError(
            f"decoding '{file}' needs PyAV: pip install av, or extract the frames into a folder frames/{file.stem}/"
        ) from error
    with av.open(str(file)) as container:
        for frame in container.decode(video=0):
            yield frame.to_image()
