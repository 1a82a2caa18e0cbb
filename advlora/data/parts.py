"""A split of any layout as parts, each decoded at once, and where their samples stand in the split's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Samples = tuple[Sequence[np.ndarray[Any, Any]], Sequence[int], Sequence[tuple[str, ...]]]
"""Images `(3, H, W)` (videos `(F, 3, H, W)`), labels, captions."""


@dataclass(frozen=True)
class Part:
    """A shard, or a chunk of records.

    Attributes:
        places: Where each of its samples stands in the order of the split.
        read: Decodes the samples at some positions within the part.
    """

    places: Sequence[int]
    read: Callable[[Sequence[int]], Samples]

    def first(self, limit: int | None) -> Part | None:
        """Returns the part of those among the first `limit` samples of the split; None if there are none."""
        wanted = [position for position, place in enumerate(self.places) if limit is None or place < limit]
        if not wanted:
            return None
        places = [self.places[position] for position in wanted]
        return Part(places, lambda chosen: self.read([wanted[position] for position in chosen]))

    def all(self) -> Samples:
        """Decodes all samples."""
        return self.read(range(len(self.places)))


def first_parts(parts: Sequence[Part], limit: int | None) -> Iterator[Part]:
    """Yields what the parts hold of the first `limit` samples of their split."""
    for part in parts:
        if (wanted := part.first(limit)) is not None:
            yield wanted
