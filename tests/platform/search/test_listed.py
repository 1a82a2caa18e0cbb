from __future__ import annotations

import pytest

from advlora_platform.search.listed import ListSearcher
from tests.platform.search.small_searches import record

pytestmark = pytest.mark.unit


def test_every_trial_is_handed_out_once_and_settled_ones_not_at_all(factory):
    trials = [factory.trial("a", seed, {}, "confirm") for seed in range(3)]
    searcher = ListSearcher(trials, [record(trials[1])])
    assert (searcher.total, searcher.remaining) == (3, 2)
    assert [factory.from_tune(searcher.suggest(trial)) for trial in "ab"] == [trials[0], trials[2]]
    assert searcher.suggest("c") == searcher.FINISHED
