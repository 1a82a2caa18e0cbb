"""How often a trial is tried again within one launch."""

from __future__ import annotations

import pytest

from advlora_platform.execution.tries import DIED, Tries
from advlora_platform.study.failures import CLASSES, Failure

pytestmark = pytest.mark.unit


def failures_until_the_end(tries, failure):
    for number in range(1, 10):
        ended = tries.failed(failure, warm=False)
        if ended is not None:
            return number, ended.message
    raise AssertionError("it is tried for ever")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.name)
def test_each_class_is_tried_as_often_as_it_says(kind):
    number, message = failures_until_the_end(Tries(), Failure(kind.name, "why"))
    assert number == 1 + kind.retried
    assert message == (f"why; tried {number} times" if kind.retried else "why")


def test_a_new_epoch_resets_the_count_and_a_repeated_one_does_not():
    tries = Tries()
    tries.completed(1)
    assert tries.failed(DIED, warm=False) is None
    tries.completed(1)
    assert tries.failures == 1
    tries.completed(2)
    assert tries.failures == 0


def test_what_remains_of_earlier_trials_may_have_caused_does_not_count():
    tries = Tries()
    full = Failure("out_of_memory", "CUDA out of memory")
    assert tries.failed(full, warm=True) is None
    assert tries.failed(full, warm=False) == full
