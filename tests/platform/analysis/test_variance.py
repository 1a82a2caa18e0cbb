from __future__ import annotations

import numpy as np
import pytest

from advlora_platform.analysis.variance import LEAST_P, Variance, crossed

pytestmark = pytest.mark.unit

TABLE = np.array([[1.0, 2.0, 4.0], [2.0, 3.0, 5.0], [3.0, 5.0, 7.0]])
"""Three seeds on three examples."""


def test_the_parts_are_those_of_the_two_way_analysis_of_variance():
    found = crossed(TABLE)
    # Means of squares by hand: seeds 5.4444, examples 8.4444, rest 0.1111.
    assert found.of_rest == pytest.approx(1 / 9)
    assert found.of_seeds == pytest.approx((49 / 9 - 1 / 9) / 3)
    assert found.of_examples == pytest.approx((76 / 9 - 1 / 9) / 3)
    assert (found.seeds, found.examples, found.df) == (3, 3, 2)


def test_drawn_parts_are_found_again():
    chance = np.random.default_rng(0)
    seeds, examples, rest = 0.5, 1.0, 2.0
    table = seeds * chance.standard_normal((300, 1)) + examples * chance.standard_normal((1, 400))
    found = crossed(table + rest * chance.standard_normal((300, 400)))
    assert (found.of_seeds, found.of_examples, found.of_rest) == pytest.approx((0.25, 1.0, 4.0), rel=0.2)


def test_more_seeds_make_their_part_smaller_and_not_that_of_the_examples():
    found = Variance(seeds=4, examples=100, df=3, of_seeds=1.0, of_examples=50.0, of_rest=20.0)
    assert found.parts() == pytest.approx((0.25, 0.5, 0.05))
    assert found.parts(seeds=8) == pytest.approx((0.125, 0.5, 0.025))
    assert found.parts(examples=200) == pytest.approx((0.25, 0.25, 0.025))
    assert found.half_width(0.05, seeds=8) < found.half_width(0.05)
    limit = 1.959964 * 0.5**0.5
    assert found.half_width(0.05, seeds=10_000) == pytest.approx(limit, rel=0.01)


def test_the_quantile_is_weighted_between_that_of_the_seeds_and_the_normal_one():
    few = Variance(seeds=3, examples=100, df=2, of_seeds=3.0)
    many = Variance(seeds=3, examples=100, df=2, of_seeds=0.0, of_examples=100.0)
    assert few.half_width(0.05) == pytest.approx(4.302653, abs=1e-5)
    assert many.half_width(0.05) == pytest.approx(1.959964, abs=1e-5)
    both = Variance(seeds=3, examples=100, df=2, of_seeds=3.0, of_examples=100.0)
    assert both.half_width(0.05) == pytest.approx((4.302653 + 1.959964) / 2 * 2**0.5, abs=1e-5)


def test_seeds_that_happen_to_agree_do_not_make_the_images_certain():
    """By chance the means of three seeds may be closer than what is particular to each image allows."""
    table = np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0]])
    found = crossed(table)
    assert found.of_seeds < 0
    assert found.parts()[0] == 0
    _, example, rest = found.parts()
    assert found.half_width(0.05) == pytest.approx(1.959964 * (example + rest) ** 0.5)


def test_the_p_value_is_the_level_at_which_the_interval_touches_zero():
    found = crossed(TABLE)
    p = found.p_value(1.5)
    assert found.half_width(p) == pytest.approx(1.5)
    assert found.p_value(-1.5) == p
    assert (found.p_value(0.0), found.p_value(1e9)) == (1.0, LEAST_P)


def test_seeds_that_agree_to_the_step_of_an_accuracy_are_not_certain():
    equal = np.full((3, 1), 0.004)
    assert crossed(equal).half_width(0.05) == 0
    assert crossed(equal, grain=0.002).of_seeds == pytest.approx(0.002**2 / 12)
