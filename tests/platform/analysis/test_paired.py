from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from advlora_platform.analysis.paired import compare_outcomes, mcnemar, paired_bootstrap

pytestmark = pytest.mark.unit


def outcomes(both, only_first, only_second, neither):
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return first, second


def test_the_difference_counts_the_examples_that_one_alone_gets_right():
    found = compare_outcomes(*outcomes(50, 30, 10, 10))
    assert (found.examples, found.only_first, found.only_second) == (100, 30, 10)
    assert found.difference == pytest.approx(0.2)
    assert found.low < 0.2 < found.high
    assert found.low > 0 > compare_outcomes(*outcomes(50, 12, 10, 28)).low


def test_the_interval_is_that_of_resampled_examples():
    first, second = (np.array(row) for row in outcomes(60, 25, 10, 55))
    source = np.random.default_rng(1)
    places = source.integers(len(first), size=(20_000, len(first)))
    expected = np.quantile(first[places].mean(1) - second[places].mean(1), [0.025, 0.975])
    assert paired_bootstrap(first, second) == pytest.approx(expected, abs=0.008)


def test_pairing_is_tighter_than_two_samples_that_are_taken_for_independent():
    low, high = paired_bootstrap(*outcomes(500, 20, 10, 470))
    accuracies = (520 / 1000, 510 / 1000)
    independent = 2 * 1.96 * sum(p * (1 - p) / 1000 for p in accuracies) ** 0.5
    assert high - low < 0.5 * independent


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    source, covered, truth = np.random.default_rng(5), 0, 0.15 - 0.10
    for trial in range(200):
        kinds = source.choice(4, size=300, p=[0.5, 0.15, 0.10, 0.25])
        low, high = paired_bootstrap(kinds < 2, (kinds == 0) | (kinds == 2), draws=2000, seed=trial)
        covered += low <= truth <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_a_wider_level_gives_a_wider_interval_and_a_seed_the_same_one():
    rows = outcomes(50, 30, 10, 10)
    narrow, wide = paired_bootstrap(*rows, level=0.5), paired_bootstrap(*rows, level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert paired_bootstrap(*rows, seed=3) == paired_bootstrap(*rows, seed=3)
    assert compare_outcomes(*rows, seed=3) == compare_outcomes(*rows, seed=3)


@pytest.mark.parametrize(("first", "second"), [(5, 5), (1, 9), (0, 7), (30, 12), (2, 1)])
def test_the_exact_value_is_that_of_a_fair_coin(first, second):
    exact, mid = mcnemar(first, second)
    assert exact == pytest.approx(binomtest(first, first + second, 0.5).pvalue)
    assert mid <= exact
    assert mcnemar(second, first) == (exact, mid)


def test_the_mid_value_leaves_out_half_of_what_was_seen_on_both_sides():
    assert mcnemar(0, 7)[1] == pytest.approx(0.5**7)
    assert mcnemar(1, 2) == pytest.approx((1.0, 2 * (1 + 3) / 8 - 3 / 8))


def test_models_that_never_differ_are_not_told_apart():
    found = compare_outcomes(*outcomes(40, 0, 0, 60))
    assert (found.difference, found.low, found.high, found.p_value, found.p_mid) == (0, 0, 0, 1, 1)


@pytest.mark.parametrize("rows", [([], []), ([True], [True, False])])
def test_other_examples_cannot_be_compared(rows):
    with pytest.raises(ValueError, match="same examples"):
        compare_outcomes(*rows)
