from __future__ import annotations

import numpy as np
import pytest

from advlora_platform.analysis.blocks import Blocks, scatter

pytestmark = pytest.mark.unit


def test_holes_get_their_least_squares_values():
    """Rows and columns add up, so that the hole is known exactly."""
    whole = np.array([1.0, 4.0])[:, None] + np.array([0.0, 2.0, 5.0])[None]  # (G, S)
    measured = np.ones((2, 3), dtype=bool)
    measured[1, 2] = False
    values = np.where(measured, whole, 99.0)[..., None]
    blocks = Blocks(values, measured)
    assert blocks.filled()[..., 0] == pytest.approx(whole)
    assert blocks.by_seed()[:, 0] == pytest.approx(whole.mean(0))
    assert blocks.complete == 2


def test_the_mean_is_the_least_squares_estimate_for_every_example():
    chance = np.random.default_rng(0)
    values, measured = chance.standard_normal((3, 4, 5)), chance.random((3, 4)) < 0.8
    measured[0], measured[:, 0] = True, True
    rows, columns = np.nonzero(measured)
    design = np.zeros((len(rows), 7))
    design[np.arange(len(rows)), rows], design[np.arange(len(rows)), 3 + columns] = 1, 1
    for example in range(5):
        fit = np.linalg.lstsq(design, values[rows, columns, example], rcond=None)[0]
        mean = Blocks(values, measured).by_seed()[:, example].mean()
        assert mean == pytest.approx(fit[:3].mean() + fit[3:].mean())


def test_without_holes_nothing_is_changed():
    values = np.arange(12.0).reshape(2, 3, 2)
    assert Blocks(values, np.ones((2, 3), dtype=bool)).filled() is values


def test_the_scatter_of_arms_is_what_arm_and_seed_leave():
    chance = np.random.default_rng(0)
    table = 3 * chance.standard_normal((40, 1)) + 2 * chance.standard_normal((1, 6)) + chance.standard_normal((40, 6))
    variance, df = scatter(table)
    assert df == 39 * 5
    assert variance == pytest.approx(1.0, rel=0.2)
    table[3, 2], table[5] = np.nan, np.nan
    assert scatter(table)[1] == 38 * 5 - 1
    assert scatter(table[:1]) == (0.0, 0)
