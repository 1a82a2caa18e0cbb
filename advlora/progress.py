"""How far long reading has come, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")
Listener = Callable[[str, int, int], None]
"""Is told what is read, how many of it are done, and how many there are."""

STRIDE = 50
"""The listener is told of every 50th item, and of the last."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def shown_by(listener: Listener) -> Iterator[None]:
    """Inside, a listener is told of all progress in this thread."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def told(noun: str, done: int, total: int) -> None:
    """Tells that so many of something are done, and the next one begins."""
    if (listener := _listener.get()) is not None:
        listener(noun, done, total)


def counted(items: Iterable[Item], total: int, noun: str) -> Iterator[Item]:
    """Yields the items and tells of each that is done.

    Args:
        items: What takes long to make.
        total: How many there are.
        noun: What they are, in the plural.
    """
    listener = _listener.get()
    for done, item in enumerate(items, 1):
        if listener is not None and (done % STRIDE == 0 or done == total):
            listener(noun, done, total)
        yield item
