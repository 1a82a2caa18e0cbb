"""`advlora report`: write summary and report of a study again."""

from __future__ import annotations

import click

from advlora_platform.cli.console import output, print_json, print_report
from advlora_platform.cli.options import json_option, study_folder


@click.command("report", epilog="Example: advlora report quickstart")
@click.argument("study", metavar="STUDY|FOLDER")
@json_option
def command(study: str, as_json: bool) -> None:
    """Write summary.json, report.md, report.html and the figures from what is done so far.

    Works while a study runs, and shows which trials are missing.
    """
    from advlora_platform.kinds import kind_of
    from advlora_platform.launch import conclude
    from advlora_platform.study import reopen

    loaded, folder = reopen(study_folder(study))
    summary = conclude(loaded, folder)
    if as_json:
        print_json(summary.to_json())
        return
    print_report(kind_of(loaded).report(summary).document)
    output.print(f"\nReport       {folder.report_html}")
