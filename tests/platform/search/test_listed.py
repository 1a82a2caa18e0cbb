from __future__ import annotations

import pytest

from advlora_platform.search.listed import ListSearcher
from tests.platform.search.searcher_contract import SearcherContract
from tests.platform.search.small_searches import record

pytestmark = pytest.mark.unit


class TestContract(SearcherContract):
    searcher = ListSearcher

    def build(self, factory, records):
        return ListSearcher([factory.trial("a", seed, {}, "confirm") for seed in range(4)], records)


def test_trials_come_in_the_order_of_the_list(factory):
    trials = [factory.trial("a", seed, {}, "confirm") for seed in range(3)]
    searcher = ListSearcher(trials, [record(trials[1])])
    assert [factory.from_tune(searcher.suggest(trial)) for trial in "ab"] == [trials[0], trials[2]]
    assert searcher.suggest("c") == searcher.FINISHED
