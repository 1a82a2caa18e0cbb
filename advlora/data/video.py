"""Frames of a video, sampled uniformly: from extracted frames, an animated image, or a file that PyAV decodes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

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

    A video file is decoded from the key frame before each of them, not from its beginning.

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
    if file.suffix.lower() in ANIMATED:
        with Image.open(file) as image:
            places = _places(file, getattr(image, "n_frames", 1), count)
            return _chosen(ImageSequence.Iterator(image), places, make)
    return _decoded(file, count, make)


def _is_frame(file: Path) -> bool:
    return file.suffix.lower() in FRAME_SUFFIXES and not of_a_tool(file.name)


def _places(file: Path, length: int, count: int) -> list[int]:
    if not length:
        raise DataError(f"video '{file}' has no frames")
    return [int((place + 0.5) * length / count) for place in range(count)]


def _chosen(pictures: Iterable[Any], places: list[int], make: Callable[[Any], Made]) -> list[Made]:
    """Makes the pictures at some places; a place may be there twice."""
    wanted = set(places)
    until = islice(pictures, max(places) + 1)
    made = {place: make(picture) for place, picture in enumerate(until) if place in wanted}
    return [made[place] for place in places]


def _decoded(file: Path, count: int, make: Callable[[Image.Image], Made]) -> list[Made]:
    try:
        import av
    except ImportError as error:
        raise DataError(
            f"decoding '{file}' needs PyAV: pip install av, or extract the frames into a folder frames/{file.stem}/"
        ) from error
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        shown = [(packet.pts, packet.is_keyframe) for packet in container.demux(stream) if packet.size]  # not decoded
        times, places = sorted({time for time, _ in shown if time is not None}), _places(file, len(shown), count)
        if len(times) < len(shown):  # a container without a time for each frame
            container.seek(0)
            return _chosen(container.decode(stream), places, lambda frame: make(frame.to_image()))
        keys = sorted(time for time, key in shown if key)
        found = _at_times(container, stream, keys, sorted({times[place] for place in places}))
        made = {time: make(frame.to_image()) for time, frame in found}
        return [made[times[place]] for place in places]


def _at_times(container: Any, stream: Any, keys: list[int], wanted: list[int]) -> Iterator[tuple[int, Any]]:
    """Yields the frames that are shown at some times, in order; decodes on where no key frame lies between two."""
    decoding: Iterator[Any] = iter(())
    last = None
    for time in wanted:
        key = keys[max(bisect_right(keys, time) - 1, 0)]
        if last is None or last < key:
            container.seek(key, stream=stream)
            decoding = container.decode(stream)
        frame = next((frame for frame in decoding if frame.pts is not None and frame.pts >= time), None)
        if frame is None:
            raise ValueError("it ends before its last frame")
        last = frame.pts
        yield time, frame
