from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import dunnett, norm

from advlora_platform.analysis.simultaneous import Independent, SharedReference

pytestmark = pytest.mark.unit


def test_independent_questions_err_together_as_often_as_was_said():
    assert 1 - (1 - Independent(7).level(0.05)) ** 7 == pytest.approx(0.05)
    assert Independent(1).level(0.05) == pytest.approx(0.05)


@pytest.mark.parametrize("family", [Independent(9), SharedReference(9)])
def test_the_corrected_p_value_and_the_level_say_the_same(family):
    level = family.level(0.05)
    assert family.corrected(level) == pytest.approx(0.05)
    assert family.corrected(0.9 * level) < 0.05 < family.corrected(1.1 * level)
    assert family.corrected(1.0) == pytest.approx(1.0)


@pytest.mark.parametrize(("arms", "bound"), [(1, 1.96), (2, 2.21), (3, 2.35), (5, 2.51), (9, 2.69)])
def test_comparisons_with_a_reference_have_dunnetts_bounds(arms, bound):
    """Dunnett (1964), table II, infinite degrees of freedom."""
    assert norm.isf(SharedReference(arms).level(0.05) / 2) == pytest.approx(bound, abs=6e-3)


def test_it_is_less_strict_than_for_any_correlation_and_agrees_with_scipy():
    assert Independent(10).level(0.05) < SharedReference(10).level(0.05) < 0.05
    chance = np.random.default_rng(0)
    samples = [chance.standard_normal(2000) for _ in range(4)]
    found = dunnett(*samples[1:], control=samples[0], rng=chance)
    interval = found.confidence_interval(0.95)
    half = (interval.high[0] - interval.low[0]) / 2
    pooled = np.mean([sample.var(ddof=1) for sample in samples]) ** 0.5
    assert half / (pooled * (2 / 2000) ** 0.5) == pytest.approx(norm.isf(SharedReference(3).level(0.05) / 2), abs=0.03)
