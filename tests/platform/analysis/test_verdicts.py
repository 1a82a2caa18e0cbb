from __future__ import annotations

import pytest

from advlora_platform.analysis.estimates import Estimate
from advlora_platform.analysis.variance import Variance
from advlora_platform.analysis.verdicts import More, outcome_of, what_to_add

pytestmark = pytest.mark.unit


def between(low, high, variance=None):
    return Estimate((low + high) / 2, 0.01, 5, low, high, variance)


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.002, 0.03, "better"),
        (-0.03, -0.002, "worse"),
        (-0.009, 0.008, "equivalent"),
        (0.002, 0.008, "equivalent"),  # it is not zero, but it does not matter
        (-0.011, 0.008, "unresolved"),
        (-0.009, 0.02, "unresolved"),
    ],
)
def test_the_interval_alone_decides(low, high, outcome):
    assert outcome_of(between(low, high), 0.01, 1) == outcome
    mirrored = {"better": "worse", "worse": "better"}.get(outcome, outcome)
    assert outcome_of(between(low, high), 0.01, -1) == mirrored


def test_without_a_margin_nothing_is_equivalent():
    assert outcome_of(between(-1e-6, 1e-6), 0.0, 1) == "unresolved"
    assert outcome_of(None, 0.01, 1) == "unmeasured"
    assert outcome_of(Estimate(0.5, None, 1, None, None), 0.01, 1) == "unresolved"


def test_seeds_are_added_until_the_margin_would_be_found_in_four_of_five_studies():
    variance = Variance(seeds=3, examples=0, df=2, of_seeds=0.01**2)
    more = what_to_add(between(-0.02, 0.03, variance), 0.01, 0.05)
    # n = 10: (t(0.975, 9) + 0.842) * 0.01 / sqrt(10) = 0.00981; n = 9: 0.01049
    assert more == More(seeds=7, images=None)
    assert more.words == "about 7 more seeds for 80 % power"
    larger = what_to_add(between(-0.01, 0.05, variance), 0.01, 0.05)  # 2 points were seen
    assert larger.seeds < 7


def test_where_the_images_are_too_few_seeds_do_not_help():
    variance = Variance(seeds=3, examples=500, df=2, of_seeds=0.0, of_examples=0.1, of_rest=0.05)
    more = what_to_add(between(-0.03, 0.04, variance), 0.01, 0.05)
    assert more.seeds is None
    known_exactly = (1.96 + 0.842) ** 2 * (0.1 + 0.05 / 3) / 0.01**2
    assert known_exactly < 500 + more.images < 1.3 * known_exactly
    assert more.words == f"about {more.images} more test images for 80 % power; seeds alone do not suffice"


def test_what_cannot_be_had_is_said():
    variance = Variance(seeds=3, examples=0, df=2, of_seeds=1.0)
    assert (
        what_to_add(between(-2.0, 2.0, variance), 0.01, 0.05).words
        == "more than 100 further seeds needed for 80 % power"
    )
    assert what_to_add(between(-2.0, 2.0, variance), 0.0, 0.05) is None  # no difference, and no margin
