"""The file of a sweep's journal, as Optuna writes it, but without waiting for the disk."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from advlora_platform.study.folder import naming

log = logging.getLogger("advlora")


class JournalFile(JournalFileBackend):
    """Appends a dozen lines per trial, none worth a flush: what a power failure takes, the ledger gives back.

    Optuna's own class flushes each line, which costs the driver a second per trial on a busy disk.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._writers = file, JournalFileSymlinkLock(str(file))
        super().__init__(str(file), self._writers)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends entries under the lock that `optuna-dashboard` takes as well."""
        text = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in logs)
        self._writers.acquire()
        try:
            with naming(self._file), self._file.open("a") as lines:
                lines.write(text)
        finally:
            self._writers.release()


def open_storage(file: Path) -> JournalStorage:
    """Opens a journal or begins one; a damaged one is set aside."""
    if not _is_whole(file):
        file.replace(file.with_name(f"{file.name}.damaged"))
        log.warning("%s is damaged; it is set aside, and the search goes on from the ledger", file)
    file.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFile(file))


def _is_whole(file: Path) -> bool:
    """Whether every line of a journal can be read, or there is none: a crash may have cut the last one off."""
    try:
        with file.open("rb") as lines:
            return all(line.endswith(b"\n") and json.loads(line) for line in lines)
    except FileNotFoundError:
        return True
    except ValueError:
        return False
