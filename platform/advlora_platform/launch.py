"""Runs a study from its typed form to its report: the one path of `ablate`, `sweep` and `train`."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from advlora.config import TrialConfig, parse, read_yaml
from advlora.data import load_manifest
from advlora.errors import UserError
from advlora_platform.analysis import Summary, summarise
from advlora_platform.execution import run
from advlora_platform.export import provenance, write_best
from advlora_platform.report import write_report
from advlora_platform.search import PlanSearcher, build_scheduler, build_search
from advlora_platform.study.cells import CellFactory
from advlora_platform.study.folder import StudyFolder, read_json, write_json, write_text
from advlora_platform.study.lease import Lease
from advlora_platform.study.ledger import Ledger
from advlora_platform.study.library import read_study
from advlora_platform.study.observer import Observer
from advlora_platform.study.plan import arms
from advlora_platform.study.spec import AblationStudy, Study
from advlora_platform.tracking import MlflowTracker


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
    folder = open_folder(study, out)
    with Lease(folder):
        tracker = MlflowTracker(study, folder)
        factory = cell_factory(study)
        _run_missing(study, factory, folder, tracker, listeners)
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
    write_json(folder.identity, {**identity, "provenance": provenance()})
    write_text(folder.study, yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False))
    return folder


def cell_factory(study: Study) -> CellFactory:
    """Builds what turns suggested values into cells."""
    data = parse(TrialConfig, study.base).data
    return CellFactory(base=dict(study.base), protocol=study.protocol, data_hash=load_manifest(data).hash)


def _run_missing(
    study: Study, factory: CellFactory, folder: StudyFolder, tracker: MlflowTracker, listeners: Sequence[Observer]
) -> None:
    ledger = Ledger(folder)
    config = parse(TrialConfig, study.base)
    search: Any
    if isinstance(study, AblationStudy):
        search, scheduler = PlanSearcher(study, factory, ledger.records()), None
    else:
        search = build_search(study, factory, ledger.records())
        scheduler = build_scheduler(study, config.optimiser.epochs)
    if search.remaining == 0:
        return
    for listener in listeners:
        announce = getattr(listener, "expect", None)
        if announce is not None:
            announce(search.total, search.remaining)
    run(
        study,
        factory,
        search,
        folder,
        [ledger, tracker, *listeners],
        scheduler=scheduler,
        total=search.remaining,
        resources=config.resources,
    )


def reopen(path: Path) -> tuple[Study, StudyFolder]:
    """Reads the study of an existing folder.

    Raises:
        ConfigError: If its `study.yaml` is damaged.
    """
    folder = StudyFolder(path.resolve())
    return read_study(read_yaml(folder.study)), folder


def conclude(study: Study, folder: StudyFolder, tracker: MlflowTracker | None) -> Summary:
    """Writes summary, report and best configuration from the ledger, and logs them."""
    records = Ledger(folder).records()
    identity = read_json(folder.identity) or {}
    planned = arms(study) if isinstance(study, AblationStudy) else []
    summary = summarise(study, planned, records, identity)
    write_best(study, summary, folder)
    files = write_report(summary, folder)
    if tracker is not None:
        tracker.conclude(summary, [folder.study, *files, *([folder.best] if folder.best.exists() else [])])
    return summary
