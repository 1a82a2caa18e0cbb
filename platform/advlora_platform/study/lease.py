"""The lease: one driver per study folder, so that no trial is run twice and no record is written by two."""

from __future__ import annotations

import json
import os
import socket
import time
from types import TracebackType
from typing import Self

import psutil

from advlora.errors import UserError
from advlora_platform.study.folder import StudyFolder, read_json

STALE_SECONDS = 120.0
"""After this long without a sign of life, a driver on another machine counts as dead."""


class Lease:
    """Held while a driver works on a study; `renew` is its sign of life.

    A driver on this machine counts as alive while its process is; one on another machine, while it renews.
    """

    def __init__(self, folder: StudyFolder) -> None:
        """Takes the folder whose lease is wanted; nothing is written yet."""
        self._path, self._folder = folder.lease, folder.path
        self._renewed = 0.0

    def __enter__(self) -> Self:
        """Takes the lease.

        Raises:
            UserError: If another living driver holds it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        while not self._create():
            holder = self._holder()
            if holder is not None and _alive(holder):
                raise UserError(
                    f"another process (id {holder['pid']} on {holder['host']}) drives the study in {self._folder}; "
                    "wait for it, stop it, or choose another folder with --out"
                )
            self._path.unlink(missing_ok=True)
        self._renewed = time.time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._path.unlink(missing_ok=True)

    def renew(self) -> None:
        """Shows that the driver lives; cheap, so it may be called at every event."""
        if time.time() - self._renewed > STALE_SECONDS / 10:
            os.utime(self._path)
            self._renewed = time.time()

    def _create(self) -> bool:
        try:
            handle = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w") as file:
            me = psutil.Process()
            json.dump({"pid": me.pid, "host": socket.gethostname(), "born": me.create_time()}, file)
        return True

    def _holder(self) -> dict[str, float | str] | None:
        try:
            content = read_json(self._path)
            return None if content is None else {**content, "renewed": self._path.stat().st_mtime}
        except (ValueError, FileNotFoundError):
            return None  # torn by a crash, or released just now


def _alive(holder: dict[str, float | str]) -> bool:
    if holder["host"] != socket.gethostname():
        return time.time() - float(holder["renewed"]) < STALE_SECONDS
    try:
        # A process id is used again after a while; the time of birth tells the two apart.
        return abs(psutil.Process(int(holder["pid"])).create_time() - float(holder["born"])) < 1.0
    except psutil.NoSuchProcess:
        return False
