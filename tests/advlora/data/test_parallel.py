from __future__ import annotations

import threading

import pytest

from advlora.data.parallel import AHEAD, in_parallel
from advlora.progress import STRIDE, counted, shown_by

pytestmark = pytest.mark.unit


def test_results_come_in_order_and_items_are_taken_as_they_are_needed() -> None:
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = in_parallel(lambda item: item * item, items(), 3)
    assert next(results) == 0
    assert len(taken) <= AHEAD * 3
    assert [0, *results] == [item * item for item in range(100)]


def test_several_work_at_once() -> None:
    together = threading.Barrier(3, timeout=30)
    assert sorted(in_parallel(lambda item: together.wait() >= 0, range(3), 3)) == [True] * 3


@pytest.mark.parametrize("threads", [1, 4])
def test_what_goes_wrong_is_raised_in_its_place(threads: int) -> None:
    results = in_parallel(lambda item: 6 // (3 - item), range(9), threads)
    assert [next(results), next(results), next(results)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_progress_is_told_to_the_one_who_listens() -> None:
    told: list[tuple[str, int, int]] = []
    with shown_by(lambda *each: told.append(each)):
        assert list(counted(range(2 * STRIDE + 1), 2 * STRIDE + 1, "files")) == list(range(2 * STRIDE + 1))
    assert told == [("files", done, 2 * STRIDE + 1) for done in (STRIDE, 2 * STRIDE, 2 * STRIDE + 1)]
    list(counted(range(STRIDE), STRIDE, "files"))
    assert len(told) == 3
