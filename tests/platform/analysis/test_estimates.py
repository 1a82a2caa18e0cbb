from __future__ import annotations

import pytest

from advlora_platform.analysis.estimates import Estimate, estimate, holm, more_seeds, p_value

pytestmark = pytest.mark.unit


def test_the_interval_is_students_t():
    found = estimate([1.0, 2.0, 3.0], 0.95)
    # t(0.975, 2) = 4.302653; sd = 1; half-width = 4.302653 / sqrt(3)
    assert (found.mean, found.sd, found.n) == (2.0, 1.0, 3)
    assert found.high - found.mean == pytest.approx(2.484138, abs=1e-6)
    assert found.mean - found.low == pytest.approx(found.half_width)
    assert estimate([1.0, 2.0, 3.0], 0.8).half_width < found.half_width


def test_one_seed_has_no_interval_and_none_has_no_mean():
    single = estimate([0.5], 0.95)
    assert (single.mean, single.sd, single.low, single.high, single.half_width) == (0.5, None, None, None, None)
    assert p_value(single) is None
    assert estimate([], 0.95) is None
    assert p_value(None) is None


def test_the_p_value_belongs_to_the_interval():
    found = estimate([0.01, 0.02, 0.06], 0.95)
    p = p_value(found)
    at_p = estimate([0.01, 0.02, 0.06], 1 - p)
    assert at_p.low == pytest.approx(0, abs=1e-12)
    assert p_value(estimate([1.0, 2.0, 3.0], 0.95)) == pytest.approx(0.074180, abs=1e-6)


def test_differences_without_spread_are_certain():
    assert p_value(estimate([0.25, 0.25, 0.25], 0.95)) == 0.0
    assert p_value(estimate([0.0, 0.0], 0.95)) == 1.0


def test_holm_multiplies_by_what_is_left_and_never_falls():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.02]) == pytest.approx([0.02])
    assert holm([]) == []


def test_a_question_without_answer_counts_as_asked():
    assert holm([0.01, None, 0.02]) == [pytest.approx(0.03), None, pytest.approx(0.04)]


def test_more_seeds_is_the_first_number_whose_half_width_falls_below_the_effect():
    found = Estimate(mean=1.0, sd=1.0, n=3, low=-1.48, high=3.48)
    # half-widths at 95 %: n = 6 -> 1.049, n = 7 -> 0.925
    assert more_seeds(found, 0.05, 100) == 4
    assert more_seeds(found, 0.05 / 3, 100) > 4
    assert more_seeds(found, 0.05, 3) is None
    assert more_seeds(Estimate(0.0, 1.0, 3, -2.48, 2.48), 0.05, 100) is None
