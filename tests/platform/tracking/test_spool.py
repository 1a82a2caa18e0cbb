"""What waits on disk: in order, once, and nothing lost to a crash."""

from __future__ import annotations

import logging

import pytest

from advlora_platform.tracking.events import Event, Interruption, TrackedTrial
from advlora_platform.tracking.spool import Spool

pytestmark = pytest.mark.unit


def reported(epoch: int) -> Event:
    return Event("reported", TrackedTrial("id", "plain", 0, "ablate", {}, {}), epoch=epoch, metrics={"ä": 0.5})


def epochs(events) -> list[int]:
    return [event.epoch for event in events]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study" / "tracking-spool.jsonl"


def filled(path, *events) -> Spool:
    spool = Spool(path)
    for event in events:
        spool.append(event)
    return spool


def test_events_come_back_in_order_and_equal(path):
    events = [reported(1), Interruption(), reported(2)]
    assert filled(path, *events).events() == events
    assert Spool(path).events() == events
    assert Spool(path.with_name("none.jsonl")).events() == []


def test_what_was_delivered_is_forgotten_by_the_next_launch_too(path):
    spool = filled(path, reported(1), reported(2))
    assert epochs(spool.front()) == epochs(spool.front()) == [1]
    spool.advance()
    assert [event.epoch for event in Spool(path).events()] == [2]
    spool.append(reported(3))
    assert [event.epoch for event in spool.events()] == [2, 3]


def test_reports_that_wait_in_a_row_are_delivered_together_and_nothing_else_with_them(path):
    spool = filled(path, *(reported(epoch) for epoch in range(1, 5)), Interruption(), Interruption(), reported(5))
    fronts = []
    while front := spool.front(3):
        fronts.append([getattr(event, "epoch", event.kind) for event in front])
        spool.advance()
    assert fronts == [[1, 2, 3], [4], ["interrupted"], ["interrupted"], [5]]


def test_only_an_empty_spool_is_removed(path):
    spool = filled(path, reported(1))
    spool.clear()
    assert path.exists()
    spool.front()
    spool.advance()
    spool.clear()
    assert not list(path.parent.iterdir())
    spool.append(reported(2))
    assert [event.epoch for event in Spool(path).events()] == [2]


def test_half_a_line_is_no_event_and_ends_where_the_next_begins(path):
    spool = filled(path, reported(1))
    with path.open("a") as handle:
        handle.write('\n{"kind": "fini')
    assert [event.epoch for event in Spool(path).events()] == [1]
    spool = filled(path, reported(2))
    assert [event.epoch for event in spool.events()] == [1, 2]
    for epoch in (1, 2):
        assert epochs(spool.front()) == [epoch]
        spool.advance()
    assert spool.front() == []


def test_a_mark_that_outlived_its_spool_hides_nothing(path):
    spool = filled(path, *(reported(epoch) for epoch in range(3)))
    while spool.front():
        spool.advance()
    path.unlink()
    assert [event.epoch for event in filled(path, reported(9)).events()] == [9]


def test_an_event_of_another_version_is_skipped_and_said_once(path, caplog):
    filled(path, reported(1))
    with path.open("a") as handle:
        handle.write('{"kind": "reported", "failure": null, "trial": {"colour": "red"}}\n')
    filled(path, reported(2))
    with caplog.at_level(logging.WARNING, "advlora"):
        spool = Spool(path)
        assert [event.epoch for event in [*spool.events(), *spool.events()]] == [1, 2, 1, 2]
    assert len(caplog.records) == 1
