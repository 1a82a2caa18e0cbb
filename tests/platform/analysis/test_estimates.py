from __future__ import annotations

import numpy as np
import pytest

from advlora_platform.analysis.estimates import estimate

pytestmark = pytest.mark.unit


def test_over_seeds_alone_the_interval_is_students_t():
    found = estimate([1.0, 2.0, 3.0], 0.95)
    # t(0.975, 2) = 4.302653; sd = 1; half-width = 4.302653 / sqrt(3)
    assert (found.mean, found.sd, found.n) == (2.0, 1.0, 3)
    assert found.high - found.mean == pytest.approx(2.484138, abs=1e-6)
    assert found.mean - found.low == pytest.approx(found.half_width)
    assert estimate([1.0, 2.0, 3.0], 0.8).half_width < found.half_width


def test_one_seed_has_no_interval_and_none_has_no_mean():
    single = estimate([0.5], 0.95)
    assert (single.mean, single.sd, single.low, single.high, single.half_width) == (0.5, None, None, None, None)
    assert estimate([], 0.95) is None


def test_over_examples_too_the_interval_of_equal_seeds_is_that_of_a_proportion():
    """A model that no seed changes, such as the pretrained one, is right on 60 of 100 images by chance too."""
    right = np.arange(100) < 60
    found = estimate(np.stack([right] * 3), 0.95)
    assert found.mean == pytest.approx(0.6)
    assert found.half_width == pytest.approx(1.959964 * (0.6 * 0.4 / 99) ** 0.5, abs=1e-6)
    assert estimate([0.6] * 3, 0.95).half_width == 0.0
