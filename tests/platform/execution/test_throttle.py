from __future__ import annotations

import pytest

from advlora_platform.execution import throttle
from advlora_platform.execution.occupancy import Occupancy
from advlora_platform.execution.throttle import Throttle, Watch
from advlora_platform.search.listed import ListSearcher
from tests.builders import trial

pytestmark = pytest.mark.unit


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [100.0]
    monkeypatch.setattr(throttle.time, "monotonic", lambda: now[0])

    def forward(seconds):
        now[0] += seconds

    return forward


def running(throttled, numbers):
    """Returns which of the next suggestions are given."""
    return [number for number in numbers if isinstance(throttled.suggest(str(number)), dict)]


def searcher(trials=9):
    return ListSearcher([trial(seed=seed) for seed in range(trials)], [])


def test_as_many_trials_run_as_there_is_room_for_whatever_comes_and_goes(clock):
    room = [2]
    throttled = Throttle(searcher(), lambda: room[0])
    assert running(throttled, range(5)) == [0, 1]
    room[0] = 3
    clock(throttle.REFRESH_SECONDS)
    assert running(throttled, range(5, 8)) == [5]
    room[0] = 1
    clock(throttle.REFRESH_SECONDS)
    throttled.on_trial_complete("0", {})
    throttled.on_trial_complete("1", {})
    assert running(throttled, range(8, 10)) == []
    throttled.on_trial_complete("5", {})
    assert running(throttled, range(10, 13)) == [10]


def test_the_cluster_is_not_asked_at_every_turn(clock):
    asked = []
    throttled = Throttle(searcher(), lambda: asked.append(1) or 1)
    running(throttled, range(20))
    assert len(asked) == 1


def test_one_trial_waits_where_there_is_no_room_and_a_bound_holds_where_there_is(clock):
    assert running(Throttle(searcher(), lambda: 0), range(4)) == [0]
    assert running(Throttle(searcher(), lambda: 8, 3), range(6)) == [0, 1, 2]


def test_it_ends_with_its_searcher(clock):
    throttled = Throttle(searcher(1), lambda: 4)
    running(throttled, [0])
    assert throttled.suggest("1") == throttled.FINISHED
    assert throttled.get_state() == {}


def seen(held=0, awaited=1):
    return Occupancy((), (), held=({"CPU": 1},) * held, awaited=({"CPU": 1},) * awaited)


def test_waiting_is_told_after_a_while_and_then_more_and_more_rarely(clock):
    told = []
    watch = Watch(seen, told.append)
    for _ in range(60):
        watch.look()
        clock(5)
    assert [line.rpartition(", since ")[2] for line in told] == ["30 s", "60 s", "2 min", "4 min"]
    assert told[0] == "waiting for 1 CPU (CPU: 0 of 0 free, 0 held by this study), since 30 s"


def test_what_is_got_ends_a_wait(clock):
    told, state = [], [seen()]
    watch = Watch(lambda: state[0], told.append)
    for number in range(20):
        state[0] = seen(held=number // 4)  # another core every 20 s
        watch.look()
        clock(5)
    state[0] = seen(held=4, awaited=0)
    for _ in range(20):
        watch.look()
        clock(5)
    assert told == []


def test_a_cluster_that_does_not_answer_changes_nothing(clock):
    room = [2]
    throttled = Throttle(searcher(), lambda: room[0])
    assert running(throttled, range(3)) == [0, 1]
    room[0] = None
    clock(throttle.REFRESH_SECONDS)
    throttled.on_trial_complete("0", {})
    assert running(throttled, range(3, 6)) == [3]
    assert running(Throttle(searcher(), lambda: None), range(3)) == [0]
    Watch(lambda: None, pytest.fail).look()
