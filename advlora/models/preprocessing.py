"""`Preprocessing`: how a model's own library brings an image to the model's size. Pixels stay in [0, 255]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from PIL import Image

from advlora.errors import ModelError

Resize = Literal["shortest", "longest", "squash"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True)
class Preprocessing:
    """A recipe of open_clip or transformers without its normalisation, which the model does itself.

    Attributes:
        size: Height and width H = W of the images that the model takes, in pixels.
        resize: Whether the shortest edge is scaled and the image cropped at its centre, the longest scaled and the
            image padded, or both scaled, whatever the image's shape.
        interpolation: How pixels are interpolated; scaling down, over all pixels that one covers.
        edge: Length to which the edge is scaled before the crop; None for `size`.
        fill: Grey level of the padding.
        rounded: Whether the crop's offset is rounded, as in open_clip; if not, it is cut off, as in transformers.
    """

    size: int
    resize: Resize = "shortest"
    interpolation: Interpolation = "bicubic"
    edge: int | None = None
    fill: int = 0
    rounded: bool = True

    def __call__(self, image: Image.Image) -> Image.Image:
        """Returns an RGB image at the model's size; one that has it already is not scaled."""
        scaled = image.resize(self._scaled(*image.size), Image.Resampling[self.interpolation.upper()])
        if scaled.size == (self.size, self.size):
            return scaled
        fitted = Image.new("RGB", (self.size, self.size), (self.fill,) * 3)
        fitted.paste(scaled, (self._offset(scaled.width), self._offset(scaled.height)))
        return fitted

    def _scaled(self, width: int, height: int) -> tuple[int, int]:
        edge = self.edge or self.size
        if self.resize == "squash":
            return edge, edge
        if self.resize == "longest":
            ratio = max(width, height) / edge
            return max(1, round(width / ratio)), max(1, round(height / ratio))
        shortest = min(width, height)
        return int(edge * width / shortest), int(edge * height / shortest)

    def _offset(self, length: int) -> int:
        """Returns where the scaled image begins: before the crop's edge, or after it where there is padding."""
        spare = length - self.size
        if spare < 0:
            return -spare // 2
        return -round(spare / 2) if self.rounded else -(spare // 2)


def of_open_clip(settings: Mapping[str, Any], size: int) -> Preprocessing:
    """Reads the recipe of an open_clip model.

    Args:
        settings: Its `preprocess_cfg`; `random` interpolation is of its training, and means bicubic here.
        size: Height and width of the images that the model takes.
    """
    interpolation: Interpolation = "bilinear" if settings.get("interpolation") == "bilinear" else "bicubic"
    resize = cast(Resize, settings.get("resize_mode") or "shortest")
    return Preprocessing(size, resize, interpolation, fill=settings.get("fill_color") or 0)


def of_processor(processor: Any, size: int) -> Preprocessing:
    """Reads the recipe of an image processor of transformers.

    Args:
        processor: Scales the shortest edge, or to a square; may crop at the centre.
        size: Height and width of the images that the model takes.

    Raises:
        ModelError: If it makes images of another size, or interpolates in an unknown way.
    """
    edge, crops = _edge(processor.size), bool(processor.do_center_crop)
    made = _edge(processor.crop_size) if crops else edge
    resize: Resize = "shortest" if processor.size.get("shortest_edge") else "squash"
    square = made == size and (crops or resize == "squash")
    if not (processor.do_resize and square and edge is not None and edge >= size):
        crop = f", crop_size {dict(processor.crop_size)}" if crops else ""
        raise ModelError(
            f"{type(processor).__name__} does not make the images of {size} x {size} pixels that the model takes: "
            f"do_resize {processor.do_resize}, size {dict(processor.size)}{crop}"
        )
    interpolation = Image.Resampling(int(processor.resample)).name.lower()
    if interpolation not in get_args(Interpolation):
        known = ", ".join(get_args(Interpolation))
        raise ModelError(f"{type(processor).__name__} interpolates by '{interpolation}'; known are {known}")
    return Preprocessing(size, resize, cast(Interpolation, interpolation), edge=edge, rounded=False)


def _edge(size: Mapping[str, int]) -> int | None:
    """Returns the edge that a size of transformers names; None where it names several, or others."""
    known = {key: value for key, value in dict(size).items() if value is not None}
    lengths = set(known.values())
    wanted = known.keys() in ({"shortest_edge"}, {"height", "width"})
    return lengths.pop() if wanted and len(lengths) == 1 else None
