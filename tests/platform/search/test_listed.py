from __future__ import annotations

import pytest

from advlora_platform.search.listed import ListSearcher
from tests.platform.search.conftest import record

pytestmark = pytest.mark.unit


def test_every_cell_is_handed_out_once_and_settled_ones_not_at_all(factory):
    cells = [factory.cell("a", seed, {}, "confirm") for seed in range(3)]
    searcher = ListSearcher(cells, [record(cells[1])])
    assert (searcher.total, searcher.remaining) == (3, 2)
    assert [factory.from_tune(searcher.suggest(trial)) for trial in "ab"] == [cells[0], cells[2]]
    assert searcher.suggest("c") == searcher.FINISHED
