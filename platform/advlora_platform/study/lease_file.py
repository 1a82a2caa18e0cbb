"""The lease on storage: complete from its first moment, and one successor for each holder, whatever the timing."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from advlora_platform.study.folder import naming
from advlora_platform.study.holder import Holder


class LeaseFile:
    """A file that one process at a time may call its own.

    It is published by a hard link, which appears with its content and fails where the name is taken. Where nobody holds
    the lease, that name is the file's own. Whoever follows a dead holder claims a name that contains the dead one's
    token, so that of many who found the same holder dead one wins, and then moves the claim into place: the file of a
    holder is never removed by another one, only replaced by its successor.

    This needs nothing from the storage but links and renames that are atomic for all machines, as they are on NFS.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def holder(self) -> Holder | None:
        """Returns who holds the lease; None where it is free."""
        holder = _read(self._path)
        while holder is not None and (successor := _read(self._claim(holder))) is not None:
            holder = successor
        return holder

    def publish(self, me: Holder, dead: Holder | None) -> bool:
        """Makes `me` the holder after a dead one, or after nobody; returns False where another was faster."""
        if dead is None:
            return self._create(self._path, me)
        claim = self._claim(dead)
        if not self._create(claim, me):
            return False
        if self.holder() != me:  # another claimed first and has moved its claim, so that the name was free again
            claim.unlink(missing_ok=True)
            return False
        claim.replace(self._path)
        for overtaken in self._path.parent.glob(f"{self._path.name}.after-*"):
            overtaken.unlink(missing_ok=True)
        return True

    def renew(self, me: Holder) -> bool:
        """Gives a sign of life; returns False if the lease is another's now."""
        try:
            with self._path.open() as file:
                if Holder.read(file.read(), 0.0) != me:
                    return False
                os.utime(file.fileno())  # exactly the file that was read, whatever bears its name by now
        except FileNotFoundError:  # removed by hand
            return self._create(self._path, me)
        return True

    def withdraw(self, me: Holder) -> bool:
        """Frees the lease; returns False if it is another's."""
        mine = self.renew(me)
        if mine:  # nobody follows a holder that was seen alive just now
            self._path.unlink(missing_ok=True)
        return mine

    def silence(self, holder: Holder) -> float:
        """Returns the seconds since a holder's last sign of life, by the clock of the storage, which all share."""
        with self._draft() as probe:
            probe.touch()
            return probe.stat().st_mtime - holder.renewed

    def _claim(self, holder: Holder) -> Path:
        return self._path.with_name(f"{self._path.name}.after-{holder.token}")

    def _create(self, path: Path, me: Holder) -> bool:
        with self._draft() as draft:
            with naming(path), draft.open("w") as file:
                file.write(me.text())
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, path)
            except FileExistsError:
                return draft.stat().st_nlink > 1  # the answer to the first request may have been lost on the network
            except OSError:  # no hard links here; a reader may see half of the file, and waits until it is whole
                return _write_new(path, me.text())
        return True

    @contextmanager
    def _draft(self) -> Iterator[Path]:
        path = self._path.with_name(f"{self._path.name}.{uuid.uuid4().hex}.tmp")
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _read(path: Path) -> Holder | None:
    try:
        with path.open() as file:
            return Holder.read(file.read(), os.fstat(file.fileno()).st_mtime)
    except FileNotFoundError:
        return None


def _write_new(path: Path, text: str) -> bool:
    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True
