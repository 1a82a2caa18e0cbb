"""Every file of a data set is opened once: what it holds, and whether it can be read, is remembered.

A file counts as known while its size and the time of its last change are the same; the latter cannot be set by hand,
so that a set rebuilt in place under the same names and sizes is seen as new.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from advlora.data.cache import cache_folder
from advlora.data.files import of_a_tool, shown
from advlora.data.parallel import in_parallel
from advlora.errors import DataError
from advlora.identity import fingerprint
from advlora.kept import draft_of
from advlora.progress import counted

State = tuple[int, int, int]
"""Number of files, sum of sizes in bytes, time of the last change in nanoseconds."""


CLOCK = 100_000_000
"""Nanoseconds by which file systems may be late in telling times."""


@dataclass(frozen=True)
class Examined:
    """A file, or a folder of frames.

    Attributes:
        digest: Hash of its content; empty if there is none.
        problem: Why it cannot be read, a sentence; empty if it can.
    """

    digest: str
    problem: str = ""


Look = Callable[[Path], Examined]


def examine(folder: Path, kind: str, files: Sequence[Path], look: Look, threads: int) -> list[Examined]:
    """Opens files in parallel, except those that are known to be readable from an earlier time.

    Args:
        folder: Folder of the data set.
        kind: What is looked for; files known under one kind are not under another.
        files: The files.
        look: Opens one.
        threads: How many are opened at once.

    Returns:
        What was found, in the order of the files. A file that cannot be read is opened again every time.
    """
    memory = _memory(folder, kind)
    known = _known(memory)
    began, states = time.time_ns(), {file: _state(file) for file in files}
    found = {file: Examined(known[str(file)][1]) for file in files if _same(known.get(str(file)), states[file])}
    fresh = [file for file in states if file not in found]
    results = in_parallel(lambda file: _looked(file, states[file], look), fresh, threads)
    try:
        for file, result in zip(fresh, counted(results, len(fresh), "files"), strict=True):
            found[file] = result
    finally:
        if fresh:
            _remember(memory, known | _lasting(found, states, began))
    return [found[file] for file in files]


def forget(folder: Path, kind: str) -> None:
    """Makes the next examination open every file."""
    with suppress(OSError):
        _memory(folder, kind).unlink(missing_ok=True)


def hashed(file: Path) -> str:
    """Returns the hash of a file's content, or of the files in a folder with their names."""
    if file.is_dir():
        parts = sorted(part for part in file.iterdir() if not of_a_tool(part.name))
        return hashlib.sha256("".join(f"{part.name} {hashed(part)}\n" for part in parts).encode()).hexdigest()
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _memory(folder: Path, kind: str) -> Path:
    return cache_folder("examined") / f"{fingerprint(str(folder.resolve()), kind)}.json"


def _looked(file: Path, state: State | None, look: Look) -> Examined:
    if state is None:
        return Examined("", f"'{shown(file)}' is missing")
    try:
        return look(file)
    except DataError as error:
        return Examined("", "; ".join(error.problems))


def _state(file: Path) -> State | None:
    """Returns what changes with a file; None if it is missing."""
    try:
        own = file.stat()
        if not S_ISDIR(own.st_mode):
            return 1, own.st_size, own.st_ctime_ns
        parts = [own, *(part.stat() for part in file.iterdir())]
    except OSError:
        return None
    return len(parts), sum(part.st_size for part in parts), max(part.st_ctime_ns for part in parts)


def _lasting(found: Mapping[Path, Examined], states: Mapping[Path, State | None], began: int) -> dict[str, Any]:
    """Returns what is remembered. A file changed just before `began` may change again without another time."""
    return {
        str(file): [state, each.digest]
        for file, each in found.items()
        if not each.problem and (state := states[file]) is not None and state[2] < began - CLOCK
    }


def _same(entry: Any, state: State | None) -> bool:
    return entry is not None and state is not None and tuple(entry[0]) == state


def _known(memory: Path) -> dict[str, Any]:
    try:
        content = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _remember(memory: Path, content: dict[str, Any]) -> None:
    """Writes in one step; without a place to write, the files are opened again next time."""
    with suppress(OSError), draft_of(memory) as draft:
        draft.write_text(json.dumps(content, ensure_ascii=True, separators=(",", ":")))
