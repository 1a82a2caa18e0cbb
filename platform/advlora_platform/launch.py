"""Runs a study from its typed form to its report: the one path of `ablate`, `sweep` and `train`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from advlora_platform.analysis import Summary
from advlora_platform.execution import available, concurrency, run
from advlora_platform.export import provenance, write_best
from advlora_platform.kinds import StudyKind, kind_of
from advlora_platform.report import write_report
from advlora_platform.search.contract import StageBuilder
from advlora_platform.study import (
    Expectant,
    Lease,
    Ledger,
    Observer,
    Shielded,
    Study,
    StudyFolder,
    open_folder,
    read_json,
    remove_drafts,
    reopened,
)
from advlora_platform.study.location import check_location
from advlora_platform.study.outcomes import Shelf
from advlora_platform.tracking import MlflowTracker, database_file, known_runs, tracking_uri


def launch(study: Study, out: Path, listeners: Sequence[Observer] = (), *, wait: bool = False) -> Summary:
    """Runs what the ledger does not have yet, then writes summary, report and best configuration.

    The same call after any interruption continues the study. The caller must have run `check_study`.

    Args:
        study: The validated study.
        out: The study folder; it is made when it does not exist.
        listeners: Further observers, such as a progress display.
        wait: Whether to wait until another process that drives the folder ends, rather than to refuse.

    Raises:
        UserError: If the folder cannot hold a study or belongs to another one, another process drives it, the cluster
            cannot hold a trial, or the tracking server does not answer.
    """
    _check_locations(out)
    concurrency(study.trial.resources, available(), study.max_concurrent)
    with Lease(StudyFolder(out.resolve()), wait=wait) as lease:
        remove_drafts(StudyFolder(out.resolve()))
        folder, kind = open_folder(study, out, provenance()), kind_of(study)
        with MlflowTracker(study, folder) as tracker:
            observers: list[Observer] = [Ledger(folder), *map(Shielded, (tracker, *listeners))]
            for stage in kind.stages():
                _run_missing(stage, kind, folder, observers, lease.check)
            lease.check()
            return conclude(study, folder, tracker)


def _check_locations(out: Path) -> None:
    shared = "on storage that every node sees"
    check_location(out, "study folder", f"give --out a folder {shared}")
    database = database_file(tracking_uri())
    if database is not None:
        server = "set MLFLOW_TRACKING_URI to a tracking server"
        check_location(database, "MLflow store", f"{server}, or to sqlite:////FOLDER/mlflow.db {shared}")


def _run_missing(
    build: StageBuilder,
    kind: StudyKind[Study, Summary],
    folder: StudyFolder,
    observers: Sequence[Observer],
    heartbeat: Callable[[], None],
) -> None:
    """Runs the trials of a stage that the ledger does not have; nothing is started where it has all of them."""
    stage = build(reopened(Ledger(folder).records()), folder)
    if stage.search.remaining == 0:
        return
    for observer in observers:
        if isinstance(observer, Expectant):
            observer.expect(stage.search.total, stage.search.remaining)
    run(
        stage.search,
        kind.trials,
        folder,
        observers,
        resources=kind.study.trial.resources,
        scheduler=stage.scheduler,
        max_concurrent=kind.study.max_concurrent,
        heartbeat=heartbeat,
    )


def conclude(study: Study, folder: StudyFolder, tracker: MlflowTracker | None = None) -> Summary:
    """Writes summary, report and best configuration from the ledger, and logs them where there is a tracker."""
    kind, records = kind_of(study), Ledger(folder).records()
    runs = known_runs(folder) if tracker is None else tracker.runs()
    summary: Summary = kind.summarise(records, read_json(folder.identity) or {}, runs, Shelf(folder))
    write_best(study, summary, folder)
    files = write_report(kind.report(summary), folder)
    if tracker is not None:
        tracker.conclude(summary, [folder.study, *files, *([folder.best] if folder.best.exists() else [])])
    return summary
