"""The simulation behind `docs/statistics.md`, at reduced size."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.verdicts import SCENARIOS, simulate

pytestmark = pytest.mark.unit

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
STUDIES = 80
FALSE = ("accuracies", "rounded to 1/500", "dead arms and holes", "correlated arms", "unequal scatter", "1000 images")


def at_most(hits, share):
    """Whether a rate of at most `share` is believable: three standard errors above."""
    return np.mean(hits) <= share + 3 * (share * (1 - share) / len(hits)) ** 0.5


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("name", FALSE)
def test_verdicts_are_wrong_in_one_study_of_twenty_at_most(name, seeds):
    score = simulate(BY_NAME[name], 5, seeds, STUDIES)
    assert len(score.covered) == STUDIES
    assert at_most(score.wrong, 0.05)
    assert at_most([not covered for covered in score.covered], 0.05)


@pytest.mark.parametrize("name", ["effects, 2^3", "effects, 2^3 with holes", "interactions, 2^3"])
def test_so_are_those_on_factors(name):
    score = simulate(BY_NAME[name], 8, 5, STUDIES)
    assert at_most(score.wrong, 0.05)
    assert at_most([not covered for covered in score.covered], 0.05)
    assert np.mean(score.found) > 0.9


def test_what_is_there_is_found_with_a_few_more_seeds():
    score = simulate(BY_NAME["accuracies"], 5, 3, STUDIES)
    assert 0.3 < np.mean(score.found) < 0.8
    assert max(score.more) < 10
    assert np.mean(score.reached) > 0.7


def test_arms_that_do_not_scatter_alike_must_not_be_declared_to():
    """What the option promises is true where its condition holds, and false where it does not."""
    kept = simulate(BY_NAME["common scatter"], 10, 5, STUDIES)
    assert at_most([not covered for covered in kept.covered], 0.05)
    broken = simulate(BY_NAME["common, not true"], 10, 5, STUDIES)
    assert np.mean(broken.covered) < 0.9
