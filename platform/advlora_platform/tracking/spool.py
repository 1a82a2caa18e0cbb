"""The spool: what waits for the store, on disk, with a mark of how far it was delivered."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from advlora_platform.tracking.events import Tracked, read_tracked

logger = logging.getLogger("advlora")


class Spool:
    """Events in the order in which they happened, one JSON line each.

    The driver appends, one thread delivers. A file beside the spool holds the offset in bytes up to which everything
    was delivered, so that neither another attempt nor another launch begins from the start.
    """

    def __init__(self, path: Path) -> None:
        """Opens the spool of a study folder; no file means that nothing waits."""
        self.path = path
        self._mark = path.with_suffix(".offset")
        self._lock = threading.Lock()
        self._offset = self._read_mark()
        self._next = self._offset  # where the line after what `front` returned begins
        self._file: BinaryIO | None = None
        self._complained = False

    def append(self, event: Tracked) -> None:
        """Adds an event, flushed to disk."""
        line = f"\n{json.dumps(asdict(event))}\n"  # the first line break ends half a line that a crash left
        with self._lock:
            # It stays open and unbuffered: each call to the system may cost a turn of the other thread.
            file = self._file = self._file or self._open()
            file.write(line.encode())
            os.fsync(file.fileno())

    def front(self, most: int = 1) -> list[Tracked]:
        """Returns what is delivered next: one event, or the reports of epochs that wait one after another.

        Args:
            most: How many reports at most.
        """
        front: list[Tracked] = []
        for event, end in self._lines():
            if front and (event.kind != "reported" or front[0].kind != "reported"):
                break
            front.append(event)
            self._next = end
            if len(front) >= most:
                break
        return front

    def events(self) -> list[Tracked]:
        """Returns everything that waits, oldest first."""
        return [event for event, _ in self._lines()]

    def advance(self) -> None:
        """Forgets what `front` returned: it was delivered, or never will be."""
        self._offset = self._next
        with self._mark.open("w") as handle:
            handle.write(f"{self._offset:020d}")

    def clear(self) -> None:
        """Removes the files if everything was delivered."""
        with self._lock:
            if self.path.exists() and next(self._lines(), None) is None:
                # In this order: an offset without a spool says nothing, a spool without an offset is sent again.
                if self._file is not None:
                    self._file.close()
                    self._file = None
                self.path.unlink()
                self._mark.unlink(missing_ok=True)
                self._offset = self._next = 0

    @property
    def size(self) -> int:
        """Bytes of the file, delivered or not."""
        return self.path.stat().st_size if self.path.exists() else 0

    def _open(self) -> BinaryIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.path.open("ab", buffering=0)

    def _read_mark(self) -> int:
        try:
            offset = int(self._mark.read_text())
        except (FileNotFoundError, ValueError):
            return 0
        if offset <= self.size:
            return offset
        self._mark.unlink()  # it belongs to a spool that is gone
        return 0

    def _lines(self) -> Iterator[tuple[Tracked, int]]:
        """Walks over the whole lines that wait, each with the offset of its end."""
        if not self.path.exists():
            return
        with self.path.open("rb") as handle:
            handle.seek(self._offset)
            end = self._offset
            for line in handle:
                end += len(line)
                event = self._read(line) if line.endswith(b"\n") else None  # an unfinished line is half a line
                if event is not None:
                    yield event, end

    def _read(self, line: bytes) -> Tracked | None:
        try:
            return read_tracked(json.loads(line))
        except ValueError:
            return None  # empty, or half a line
        except (TypeError, KeyError):
            if not self._complained:
                logger.warning("%s holds events of another version of advlora, which are skipped", self.path)
            self._complained = True
            return None
