"""What `ablate` and `sweep` have in common: check, launch, show."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from advlora_platform.cli.console import output, print_json, print_report, status
from advlora_platform.cli.progress import ProgressDisplay
from advlora_platform.study.library import Kind, load_study


def run_study(reference: str, kind: Kind, overrides: Iterable[str], out: Path | None, as_json: bool) -> None:
    """Runs a study by name or file and prints its table, or its summary as JSON."""
    study = load_study(reference, kind, overrides)
    folder = out or Path("runs") / study.name
    with status("checking the study, the model and the data"):
        from advlora_platform.checking import check_study
        from advlora_platform.launch import launch

        check_study(study)
    with ProgressDisplay(study.name) as progress:
        summary = launch(study, folder, [progress])
    if as_json:
        print_json(summary.to_json())
        return
    from advlora_platform.kinds import kind_of

    print_report(kind_of(study).report(summary).document)
    output.print(f"\nReport       {folder / 'report.html'}  (text: {folder / 'report.md'})")
    output.print(f"MLflow UI    advlora ui {folder}")
    if summary.best is not None:
        output.print(f"Train best   advlora train {folder / 'best.yaml'}")
