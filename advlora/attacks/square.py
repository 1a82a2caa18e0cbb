"""Square attack (Andriushchenko et al. 2020): random search with square-shaped updates that sees logits only."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from advlora.attacks.case import Case, Classifier, Rows
from advlora.attacks.objectives import TINY, objective
from advlora.attacks.registry import on_classes
from advlora.config.evaluation_attacks import Square

FIRST_SHARE = 0.8
"""Share of the pixels that the first squares cover (AutoAttack's value)."""
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries after which the share is halved (section 4.1). As in AutoAttack they are not rescaled to the budget, so that
a longer search continues a shorter one."""
AHEAD = 100
"""Queries for which random numbers are drawn at once."""


@dataclass
class _Search(Rows):
    """The state of algorithm 1.

    Attributes:
        point: The best point so far, and its `gain`, the margin there.
        draws: `(B, AHEAD, 5 + 3)`, uniform in [0, 1): per query two corners, an orientation, a sign per channel.
    """

    point: Tensor
    gain: Tensor
    draws: Tensor


@on_classes(Square)
def _run(case: Case, attack: Square, _: int) -> Tensor:
    return square(case, attack.steps)


def square(case: Case, queries: int) -> Tensor:
    """Returns which images are classified correctly at every visited point, `(B,)`."""
    linf = case.threat.norm == "linf"
    point = _stripes(case) if linf else _tiles(case)
    gain = _gain(case.classify, point, case.labels)
    search = _Search(case.places(), case.images, case.labels, None, point, gain, point.new_empty(len(point), 0))
    search.keep(case.standing(gain < 0))
    for query in range(queries):
        if not len(search):
            break
        if query % AHEAD == 0:
            search.draws = _draw(case, search.place, query // AHEAD)
        draw = search.draws[:, query % AHEAD]  # (B, 8)
        side = edge(query, case.images.shape[-1])
        point = _flat_square(search, draw, side, case) if linf else _moved_mass(search, draw, side, case)
        gain = _gain(case.classify, point, search.labels)  # (B,)
        better = gain > search.gain
        search.point = torch.where(better[:, None, None, None], point, search.point)
        search.gain = torch.where(better, gain, search.gain)
        search.keep(case.standing(search.gain < 0))
    return case.mask(search.place)


def edge(query: int, size: int) -> int:
    """Returns the side of the square of a query, in pixels, on images of `size` pixels."""
    share = FIRST_SHARE / 2 ** sum(query > halving for halving in HALVINGS)
    return min(max(round(sqrt(share) * size), 1), size)


@torch.no_grad()
def _gain(classify: Classifier, points: Tensor, labels: Tensor) -> Tensor:
    return objective("margin", classify(points), labels)


def _draw(case: Case, places: Tensor, number: int) -> Tensor:
    """Draws the numbers of the `number`-th `AHEAD` queries, `(B, AHEAD, 8)`, each image from its own stream."""
    return case.streams[places].branch(1 + number).uniform(AHEAD, 5 + case.images.shape[1]).to(case.images)


def _start_signs(case: Case, *shape: int) -> Tensor:
    """Draws the signs of the start, `(B, *shape)`."""
    return _signs(case.streams.branch(0).uniform(*shape)).to(case.images)


def _signs(uniform: Tensor) -> Tensor:
    """Returns -1 or 1, each for half of the uniform numbers; same shape."""
    return torch.where(uniform < 0.5, -1.0, 1.0)


def _stripes(case: Case) -> Tensor:
    """Starts from vertical stripes of +-epsilon (section 4.1)."""
    channels, _, width = case.images.shape[1:]
    return (case.images + case.threat.epsilon * _start_signs(case, channels, 1, width)).clamp(0, 1)


def _inside(corner: Tensor, side: int, size: int) -> Tensor:
    """Returns `(B, size)`, true for `side` lines from a corner on; corners `(B,)` are shares of their range."""
    first = (corner * (size - side + 1)).long()[:, None]  # (B, 1)
    line = torch.arange(size, device=corner.device)[None]  # (1, size)
    return (line >= first) & (line < first + side)


def _flat_square(search: _Search, draw: Tensor, side: int, case: Case) -> Tensor:
    """Sets a square to +-epsilon, one sign per channel (algorithm 2)."""
    height, width = search.images.shape[2:]
    rows, columns = _inside(draw[:, 0], side, height), _inside(draw[:, 1], side, width)  # (B, H), (B, W)
    window = (rows[:, :, None] & columns[:, None, :])[:, None]  # (B, 1, H, W)
    signs = _signs(draw[:, 5:])[:, :, None, None]  # (B, 3, 1, 1)
    changed = (search.images + case.threat.epsilon * signs).clamp(0, 1)
    return torch.where(window, changed, search.point)


def _tiles(case: Case) -> Tensor:
    """Starts, in L2, from a grid of bumps with random signs (section 4.2)."""
    count, channels, height, width = case.images.shape
    side = max(min(height, width) // 5, 2)
    across, down = width // side, height // side  # tiles in a row and in a column
    signs = _start_signs(case, channels, down, across)  # (B, 3, down, across)
    grid = torch.einsum("bcij,xy->bcixjy", signs, _bump(side).to(case.images))  # (B, 3, down, side, across, side)
    delta = torch.zeros_like(case.images)
    # What is left at the right and lower border stays as it is.
    delta[:, :, : down * side, : across * side] = grid.reshape(count, channels, down * side, across * side)
    return _rescaled(case.images, delta, case)


def _rescaled(images: Tensor, delta: Tensor, case: Case) -> Tensor:
    """Stretches perturbations `(B, 3, H, W)` to length epsilon and applies them."""
    length = case.threat.size(delta)[:, None, None, None].clamp_min(TINY)  # (B, 1, 1, 1)
    return (images + case.threat.epsilon * delta / length).clamp(0, 1)


def _moved_mass(search: _Search, draw: Tensor, side: int, case: Case) -> Tensor:
    """Moves the mass of one square into another as a bump of random sign (algorithm 3)."""
    delta = search.point - search.images  # (B, 3, H, W)
    channels, height, width = delta.shape[1:]
    side = min(max(side, 3) | 1, height, width)  # odd, so that a bump has a middle
    here, there = (_window(draw[:, pair : pair + 2], side, delta) for pair in (0, 2))
    old = delta[here]  # (B, 3, side, side)
    # The two squares may overlap: what lies in both must be counted once.
    union = torch.zeros_like(delta, dtype=torch.bool)
    union[here], union[there] = True, True
    mass = (delta * union).square().sum((2, 3), keepdim=True)  # (B, 3, 1, 1), squared length per channel
    # What clamping to [0, 1] has left of the budget is shared out among the channels: (B, 1, 1, 1).
    spare = (case.threat.epsilon**2 - delta.square().sum((1, 2, 3), keepdim=True)).clamp_min(0) / channels
    bump = _bump(side).to(delta)  # (side, side)
    bump = torch.where((draw[:, 4] < 0.5)[:, None, None], bump.T, bump)[:, None]  # (B, 1, side, side)
    shape = bump * _signs(draw[:, 5:])[:, :, None, None] + old / _window_length(old)  # (B, 3, side, side)
    delta[there] = 0  # first, so that where both overlap the new mass wins
    delta[here] = shape / _window_length(shape) * (mass + spare).sqrt()
    return _rescaled(search.images, delta, case)


def _window(corners: Tensor, side: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the index of a square of every image, which picks `(B, 3, side, side)`; corners in [0, 1), `(B, 2)`."""
    count, channels, height, width = like.shape
    span = torch.arange(side, device=like.device)
    row = (corners[:, 0] * (height - side + 1)).long()[:, None] + span  # (B, side)
    column = (corners[:, 1] * (width - side + 1)).long()[:, None] + span  # (B, side)
    image = torch.arange(count, device=like.device)[:, None, None, None]
    channel = torch.arange(channels, device=like.device)[None, :, None, None]
    return image, channel, row[:, None, :, None], column[:, None, None, :]  # broadcast to (B, 3, side, side)


def _window_length(values: Tensor) -> Tensor:
    """Returns the Euclidean length of every channel of a window, `(B, 3, 1, 1)`."""
    return values.square().sum((2, 3), keepdim=True).sqrt().clamp_min(TINY)


def _bump(side: int) -> Tensor:
    """Returns the L2 update of unit length, `(side, side)`: a positive pyramid above a negative one (equation 2)."""
    upper = side // 2
    bump = torch.cat([_pyramid(upper, side), -_pyramid(side - upper, side)])  # rows stacked: (side, side)
    unit: Tensor = bump / torch.linalg.vector_norm(bump)
    return unit


def _pyramid(height: int, width: int) -> Tensor:
    """Returns concentric rectangles, highest in the middle, `(height, width)`."""
    rings = max(height, width) // 2 + 1
    # Level of ring k = 0, 1, ... from the middle: the sum of 1 / j^2 over j = k + 1, ..., rings.
    level = torch.arange(rings, 0, -1).double().square().reciprocal().cumsum(0).flip(0)
    row = (torch.arange(height) - height // 2).abs()[:, None]  # (height, 1)
    column = (torch.arange(width) - width // 2).abs()[None]  # (1, width)
    return level[torch.maximum(row, column)].float()
