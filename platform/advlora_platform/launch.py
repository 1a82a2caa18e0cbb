"""Runs a study from its typed form to its report: the one path of `ablate`, `sweep` and `train`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from advlora.config import TrialConfig, parse, read_yaml
from advlora.data import load_manifest
from advlora.errors import UserError
from advlora_platform.analysis import Summary, summarise
from advlora_platform.execution import available, concurrency, run
from advlora_platform.export import provenance, write_best
from advlora_platform.report import write_report
from advlora_platform.search.ablation import PlanSearcher
from advlora_platform.search.agenda import ArmPlan, plan_arms, scores_of
from advlora_platform.search.early_stopping import build_scheduler
from advlora_platform.search.sweep import SweepSearcher, belonging
from advlora_platform.study.cells import CellFactory
from advlora_platform.study.folder import StudyFolder, read_json, write_json, write_text
from advlora_platform.study.lease import Lease
from advlora_platform.study.ledger import Ledger, Record
from advlora_platform.study.library import read_study
from advlora_platform.study.observer import Expectant, Observer
from advlora_platform.study.spec import AblationStudy, Study
from advlora_platform.tracking import MlflowTracker, known_runs


def launch(study: Study, out: Path, listeners: Sequence[Observer] = ()) -> Summary:
    """Runs what the ledger does not have yet, then writes summary, report and best configuration.

    The same call after any interruption continues the study. `check_study` is the caller's.

    Args:
        study: The validated study.
        out: The study folder; it is made when it does not exist.
        listeners: Further observers, such as a progress display.

    Raises:
        UserError: If the folder belongs to another study, another process drives it, the cluster cannot hold a
            trial, or the tracking server does not answer.
    """
    config = parse(TrialConfig, study.base)
    concurrency(config.resources, available(), study.max_concurrent)
    with Lease(StudyFolder(out.resolve())) as lease:
        folder = open_folder(study, out)
        tracker = MlflowTracker(study, folder)
        _run_missing(study, cell_factory(study), folder, [Ledger(folder), tracker], listeners, lease.renew)
        return conclude(study, folder, tracker)


def open_folder(study: Study, out: Path) -> StudyFolder:
    """Makes or reopens a study folder and writes the resolved study into it.

    Raises:
        UserError: If the folder holds a study of another name or kind.
    """
    folder = StudyFolder(out.resolve())
    identity = read_json(folder.identity)
    if identity is None:
        identity = {"study_id": uuid.uuid4().hex[:12], "name": study.name, "kind": study.kind}
    elif (identity["name"], identity["kind"]) != (study.name, study.kind):
        raise UserError(
            f"{out} holds the {identity['kind']} '{identity['name']}', not the {study.kind} '{study.name}'; "
            "choose another folder with --out"
        )
    data = parse(TrialConfig, study.base).data
    known = {"data_hash": load_manifest(data).hash, "provenance": provenance()}
    write_json(folder.identity, {**identity, **known})
    write_text(folder.study, yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False))
    return folder


def cell_factory(study: Study) -> CellFactory:
    """Builds what turns suggested values into cells."""
    data = parse(TrialConfig, study.base).data
    return CellFactory(base=dict(study.base), protocol=study.protocol, data_hash=load_manifest(data).hash)


def _run_missing(
    study: Study,
    factory: CellFactory,
    folder: StudyFolder,
    observers: Sequence[Observer],
    listeners: Sequence[Observer],
    heartbeat: Callable[[], None],
) -> None:
    records = Ledger(folder).records()
    config = parse(TrialConfig, study.base)
    search, scheduler = _search(study, factory, records, config.optimiser.epochs)
    if search.remaining == 0:
        return
    for listener in listeners:
        if isinstance(listener, Expectant):
            listener.expect(search.total, search.remaining)
    run(
        search,
        factory,
        folder,
        [*observers, *listeners],
        resources=config.resources,
        scheduler=scheduler,
        max_concurrent=study.max_concurrent,
        heartbeat=heartbeat,
    )


def _search(study: Study, factory: CellFactory, records: list[Record], epochs: int) -> tuple[Any, Any]:
    """Returns the searcher and the scheduler of a study."""
    if isinstance(study, AblationStudy):
        return PlanSearcher(study, factory, records), None
    known = belonging(study, factory, records)
    return SweepSearcher(study, factory, known), build_scheduler(study, epochs, known)


def reopen(path: Path) -> tuple[Study, StudyFolder]:
    """Reads the study of an existing folder.

    Raises:
        ConfigError: If its `study.yaml` is damaged.
    """
    folder = StudyFolder(path.resolve())
    return read_study(read_yaml(folder.study)), folder


def conclude(study: Study, folder: StudyFolder, tracker: MlflowTracker | None) -> Summary:
    """Writes summary, report and best configuration from the ledger, and logs them."""
    factory, records = cell_factory(study), Ledger(folder).records()
    plans: list[ArmPlan] = []
    if isinstance(study, AblationStudy):
        plans = plan_arms(study, factory, scores_of(study, records))
    else:
        records = belonging(study, factory, records)
    runs = known_runs(folder) if tracker is None else tracker.runs()
    summary = summarise(study, plans, records, read_json(folder.identity) or {}, runs)
    write_best(study, summary, folder)
    files = write_report(summary, folder)
    if tracker is not None:
        tracker.conclude(summary, [folder.study, *files, *([folder.best] if folder.best.exists() else [])])
    return summary
