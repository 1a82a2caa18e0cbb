"""Runs a study from its typed form to its report: the one path of `ablate`, `sweep` and `train`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from advlora_platform.analysis import Summary
from advlora_platform.execution import available, concurrency, run
from advlora_platform.export import provenance, write_best
from advlora_platform.kinds import StudyKind, kind_of
from advlora_platform.report import frames, write_report
from advlora_platform.search.contract import Stage, StageBuilder
from advlora_platform.search.listed import ListSearcher
from advlora_platform.study import (
    Expectant,
    Lease,
    Ledger,
    Observer,
    Record,
    Shielded,
    Study,
    StudyFolder,
    open_folder,
    read_json,
    remove_drafts,
    reopen,
    reopened,
)
from advlora_platform.study.keeping import spare_states
from advlora_platform.study.location import check_location
from advlora_platform.study.outcomes import Shelf
from advlora_platform.study.trials import Trial
from advlora_platform.tracking import MlflowTracker, database_file, known_runs, tracking_uri

if TYPE_CHECKING:
    from pandas import DataFrame


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
            summary = conclude(study, folder, tracker)
        for state in spare_states(folder, Ledger(folder).records(), study.keep, summary.settled_best):
            state.unlink(missing_ok=True)
        return summary


def _check_locations(out: Path) -> None:
    shared = "on storage that every node sees"
    check_location(out, "study folder", f"give --out a folder {shared}")
    database = database_file(tracking_uri())
    if database is not None:
        server = "set MLFLOW_TRACKING_URI to a tracking server"
        check_location(database, "MLflow store", f"{server}, or to sqlite:////FOLDER/mlflow.db {shared}")


def run_trials(
    study: Study, trials: Sequence[Trial], out: Path, listeners: Sequence[Observer] = (), *, wait: bool = False
) -> dict[str, Record]:
    """Runs given trials of a study in a folder of their own, without a report; none of them is tracked.

    Returns:
        Trial id -> what became of it. A folder that was begun is continued.
    """
    with Lease(StudyFolder(out.resolve()), wait=wait) as lease:
        remove_drafts(StudyFolder(out.resolve()))
        folder, ledger = open_folder(study, out, provenance()), Ledger(StudyFolder(out.resolve()))
        observers: list[Observer] = [ledger, *map(Shielded, listeners)]
        _run_missing(
            lambda records, _: Stage(ListSearcher(trials, records)), kind_of(study), folder, observers, lease.check
        )
        return {record.trial_id: record for record in ledger.records()}


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
    shutil.rmtree(folder.ray, ignore_errors=True)  # the ledger knows all that Ray noted there


def conclude(study: Study, folder: StudyFolder, tracker: MlflowTracker | None = None) -> Summary:
    """Writes summary, report and best configuration from the ledger, and logs them where there is a tracker."""
    summary = summarise(study, folder, known_runs(folder) if tracker is None else tracker.runs())
    write_best(study, summary, folder)
    files = write_report(kind_of(study).report(summary), folder)
    if tracker is not None:
        tracker.conclude(summary, [folder.study, *files, *([folder.best] if folder.best.exists() else [])])
    return summary


def summarise(study: Study, folder: StudyFolder, runs: Mapping[str, str]) -> Summary:
    """Evaluates what the ledger holds; `runs` maps trial ids to MLflow run ids."""
    identity = read_json(folder.identity) or {}
    summary: Summary = kind_of(study).summarise(Ledger(folder).records(), identity, runs, Shelf(folder))
    return summary


def frames_of(path: Path | str) -> dict[str, DataFrame]:
    """Returns every table of the report of a study folder with exact numbers, by the name of its section.

    Raises:
        ConfigError: If its `study.yaml` cannot be read.
    """
    study, folder = reopen(Path(path))
    return frames(kind_of(study).report(summarise(study, folder, known_runs(folder))).document)
