"""The command line: one module per verb. Verbs are imported when they are called, so that `--help` is quick."""

from __future__ import annotations

import sys

from advlora_platform.cli.app import application
from advlora_platform.cli.console import report_problems

USER_ERROR = 2
INTERRUPTED = 130


def main() -> None:
    """Runs `advlora`; input errors end with code 2 and one sentence each, without a traceback."""
    import click

    from advlora.errors import UserError

    asked: dict[str, bool] = {}
    try:
        application.main(standalone_mode=False, obj=asked)
    except click.exceptions.Exit as exit_request:
        sys.exit(exit_request.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(USER_ERROR)
    except UserError as error:
        report_problems(error.problems, as_json=asked.get("as_json", False))
        sys.exit(USER_ERROR)
    except (KeyboardInterrupt, click.Abort):
        print("\ninterrupted; the same command continues where this one stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)
