"""The command line: one module per verb. Verbs are imported when they are called, so that `--help` is quick."""

from __future__ import annotations

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


class Terminated(KeyboardInterrupt):
    """The process was asked to end, as by a scheduler; all that holds for Ctrl-C holds for it."""


def main() -> None:
    """Runs `advlora`; input errors end with code 2 and one sentence each, without a traceback."""
    import click

    from advlora.errors import UserError

    try:
        with _terminable():
            code = application.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = USER_ERROR
    except UserError as error:
        report_problems(error.problems, as_json="--json" in sys.argv)
        code = USER_ERROR
    except (KeyboardInterrupt, click.Abort) as error:
        terminated = isinstance(error, Terminated) or isinstance(error.__cause__, Terminated)
        word, code = ("terminated", TERMINATED) if terminated else ("interrupted", INTERRUPTED)
        print(f"\n{word}; the same command continues where this one stopped", file=sys.stderr)
    if code:
        sys.exit(code)


@contextmanager
def _terminable() -> Iterator[None]:
    """Lets SIGTERM end the command like Ctrl-C: what is held is released, and Ray is shut down."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # asked twice, it ends at once
    raise Terminated
