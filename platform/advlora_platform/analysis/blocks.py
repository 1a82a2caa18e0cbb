"""Least squares with seeds as blocks: a table of groups by seeds, holes included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Blocks:
    """Differences by group and seed, each over the same examples; what was not measured is filled in.

    Attributes:
        values: `(G, S, N)`.
        measured: `(G, S)`.
    """

    values: Array
    measured: np.ndarray[Any, np.dtype[np.bool_]]

    @property
    def complete(self) -> int:
        """Number of seeds of which every group was measured."""
        return int(self.measured.all(0).sum())

    def by_seed(self) -> Array:
        """Returns the mean over groups, `(S, N)`."""
        mean: Array = self.filled().mean(0)
        return mean

    def filled(self) -> Array:
        """Fills every hole with its least-squares value: that of its group plus that of its seed (Yates, 1933).

        The mean of a table filled in this way is the least-squares estimate from what was measured.
        """
        if self.measured.all():
            return self.values
        groups, seeds = self.measured.shape
        where = np.argwhere(np.ones_like(self.measured))  # (G * S, 2), row by row
        design = np.zeros((groups * seeds, groups + seeds))
        design[np.arange(len(where)), where[:, 0]] = 1
        design[np.arange(len(where)), groups + where[:, 1]] = 1
        known = self.measured.reshape(-1)
        flat = self.values.reshape(groups * seeds, -1)  # (G, S, N) -> (G * S, N)
        fitted = design @ np.linalg.lstsq(design[known], flat[known], rcond=None)[0]
        whole: Array = np.where(known[:, None], flat, fitted).reshape(self.values.shape)  # (G * S, N) -> (G, S, N)
        return whole


def scatter(table: Array) -> tuple[float, int]:
    """Returns the residual variance of arms by seeds around arm plus seed, and its degrees of freedom.

    Args:
        table: `(A, S)`, NaN where nothing was measured.
    """
    known = ~np.isnan(table)
    table = table[known.sum(1) > 1]
    known = ~np.isnan(table)
    if not known.any():
        return 0.0, 0
    arms, seeds = table.shape
    rows, columns = np.nonzero(known)
    design = np.zeros((len(rows), arms + seeds))
    design[np.arange(len(rows)), rows] = 1
    design[np.arange(len(rows)), arms + columns] = 1
    fitted, _, rank, _ = np.linalg.lstsq(design, table[known], rcond=None)
    df = len(rows) - int(rank)
    return (float(((table[known] - design @ fitted) ** 2).sum()) / df, df) if df > 0 else (0.0, 0)
