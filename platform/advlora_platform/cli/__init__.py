"""The command line: one module per verb. Verbs are imported when they are called, so that `--help` is quick."""

from __future__ import annotations

import errno
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from advlora_platform.cli.app import application
from advlora_platform.cli.console import report_problems

USER_ERROR = 2
INTERRUPTED = 130
TERMINATED = 143
STORAGE_ERRORS = (
    *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE),
)
"""What a full, read-only or failing storage answers, which the user can put right."""


def main() -> None:
    """Runs `advlora`; input errors end with code 2 and one sentence each, without a traceback."""
    import click

    from advlora.errors import UserError

    asked: dict[str, bool] = {}
    terminated = threading.Event()
    try:
        with _terminable(terminated):
            code = application.main(standalone_mode=False, obj=asked)
    except click.ClickException as error:
        error.show()
        code = USER_ERROR
    except UserError as error:
        report_problems(error.problems, as_json=asked.get("as_json", False))
        code = USER_ERROR
    except OSError as error:
        if error.errno not in STORAGE_ERRORS:
            raise
        report_problems([_storage_problem(error)], as_json=asked.get("as_json", False))
        code = USER_ERROR
    except (KeyboardInterrupt, click.Abort):
        word, code = ("terminated", TERMINATED) if terminated.is_set() else ("interrupted", INTERRUPTED)
        print(f"\n{word}; the same command continues where this one stopped", file=sys.stderr)
    if code:
        sys.exit(code)


def _storage_problem(error: OSError) -> str:
    file = "a file" if error.filename is None else f"'{error.filename}'"
    return f"the storage refuses {file}: {error.strerror}; what was computed is kept, and the same command continues"


@contextmanager
def _terminable(terminated: threading.Event) -> Iterator[None]:
    """Lets SIGTERM end the command like Ctrl-C, so that the lease is released and Ray shut down, and notes it."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # asked twice, it ends at once
        terminated.set()
        raise KeyboardInterrupt  # a type of our own would not come out of Ray, which raises this one again

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
