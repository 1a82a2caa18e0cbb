"""What `ablate` and `sweep` have in common: check, launch, show, and say whether all went well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from advlora_platform.cli.console import messages, output, print_json, print_report, status
from advlora_platform.cli.options import study_home
from advlora_platform.cli.progress import ProgressDisplay
from advlora_platform.shelves import Kind
from advlora_platform.study.library import load_study

if TYPE_CHECKING:
    from advlora_platform.analysis import Summary
    from advlora_platform.study.spec import Study

COMPLETE = 0
INCOMPLETE = 1


def run_study(
    reference: str,
    kind: Kind,
    overrides: Iterable[str],
    out: Path | None,
    as_json: bool,
    *,
    wait: bool,
    allow_failures: bool,
) -> int:
    """Runs a study by name or file, prints its table, or its summary as JSON, and returns the exit code."""
    study = load_study(reference, kind, overrides)
    with status("checking the study, the model and the data"):
        from advlora_platform.checking import check_study
        from advlora_platform.launch import launch

        check_study(study)
    folder = study_home(study, out)
    with ProgressDisplay(study.name, study.arm_values) as progress:
        summary = launch(study, folder, [progress], wait=wait)
    if as_json:
        print_json(summary.to_json())
    else:
        _show(study, summary, folder)
    left = shortfall(summary)
    if left is not None:
        messages.print(f"[bold red]incomplete:[/] {escape(left)}", markup=True)
    return COMPLETE if left is None or allow_failures else INCOMPLETE


def shortfall(summary: Summary) -> str | None:
    """Says which trials have no result though they should have one; None if there are none of them."""
    required = summary.required
    if not required:
        return "no trial was run"
    left = Counter(trial.status for trial in required if trial.status not in {"done", "stopped"})
    if not left:
        return None
    parts = ", ".join(f"{number} {status}" for status, number in left.items())
    failure = next((trial.failure for trial in required if trial.failure is not None), None)
    first = "" if failure is None else f"; the first failure is {failure.kind}: {failure.message.splitlines()[0]}"
    return f"of {len(required)} trials, {left.total()} have no result ({parts}){first}"


def _show(study: Study, summary: Summary, folder: Path) -> None:
    from advlora_platform.kinds import kind_of

    print_report(kind_of(study).report(summary).document)
    output.print(f"\nReport       {folder / 'report.html'}  (text: {folder / 'report.md'})")
    output.print(f"MLflow UI    advlora ui {folder}")
    if summary.best is not None:
        output.print(f"Train best   advlora train {folder / 'best.yaml'}")
