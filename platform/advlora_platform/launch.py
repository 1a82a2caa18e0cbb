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
from advlora_platform.search.early_stopping import build_scheduler
from advlora_platform.search.finalists import confirmation_plans
from advlora_platform.search.listed import ListSearcher
from advlora_platform.search.plan import ArmPlan, plan_arms, scores_of
from advlora_platform.search.sweep import SweepSearcher, belonging
from advlora_platform.study.folder import StudyFolder, read_json, write_json, write_text
from advlora_platform.study.lease import Lease
from advlora_platform.study.ledger import Ledger, Record
from advlora_platform.study.library import read_study
from advlora_platform.study.observer import Expectant, Observer
from advlora_platform.study.spec import AblationStudy, Study, SweepStudy
from advlora_platform.study.trials import TrialFactory
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
        with MlflowTracker(study, folder) as tracker:
            observers: list[Observer] = [Ledger(folder), tracker, *listeners]
            for build in (_first_stage, _second_stage):
                _run_missing(build, study, folder, observers, lease.renew)
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


def trial_factory(study: Study) -> TrialFactory:
    """Builds what turns suggested values into trials."""
    data = parse(TrialConfig, study.base).data
    confirm = study.confirm if isinstance(study, SweepStudy) else None
    return TrialFactory(
        base=dict(study.base),
        protocol=study.protocol,
        data_hash=load_manifest(data).hash,
        confirming=None if confirm is None else confirm.protocol,
    )


Stage = Callable[[Study, TrialFactory, list[Record]], tuple[Any, Any]]
"""Builds the searcher and the scheduler of a stage from what is known."""


def _run_missing(
    stage: Stage, study: Study, folder: StudyFolder, observers: Sequence[Observer], heartbeat: Callable[[], None]
) -> None:
    factory, resources = trial_factory(study), parse(TrialConfig, study.base).resources
    search, scheduler = stage(study, factory, Ledger(folder).records())
    if search.remaining == 0:
        return
    for observer in observers:
        if isinstance(observer, Expectant):
            observer.expect(search.total, search.remaining)
    run(
        search,
        factory,
        folder,
        observers,
        resources=resources,
        scheduler=scheduler,
        max_concurrent=study.max_concurrent,
        heartbeat=heartbeat,
    )


def _first_stage(study: Study, factory: TrialFactory, records: list[Record]) -> tuple[Any, Any]:
    if isinstance(study, AblationStudy):
        return PlanSearcher(study, factory, records), None
    known = belonging(study, factory, records)
    epochs = parse(TrialConfig, study.base).optimiser.epochs
    return SweepSearcher(study, factory, known), build_scheduler(study, epochs, known)


def _second_stage(study: Study, factory: TrialFactory, records: list[Record]) -> tuple[Any, Any]:
    """Confirms the finalists of a sweep; nothing for an ablation, whose trials are all reported."""
    plans = [] if isinstance(study, AblationStudy) else reported_plans(study, factory, records)
    return ListSearcher([trial for plan in plans for trial in plan.trials], records), None


def reported_plans(study: Study, factory: TrialFactory, records: list[Record]) -> list[ArmPlan]:
    """Returns the trials that are reported, as far as they are known: of every arm, or of every finalist."""
    if isinstance(study, AblationStudy):
        return plan_arms(study, factory, scores_of(study, records))
    return confirmation_plans(study, factory, belonging(study, factory, records))


def reopen(path: Path) -> tuple[Study, StudyFolder]:
    """Reads the study of an existing folder.

    Raises:
        ConfigError: If its `study.yaml` is damaged.
    """
    folder = StudyFolder(path.resolve())
    return read_study(read_yaml(folder.study)), folder


def conclude(study: Study, folder: StudyFolder, tracker: MlflowTracker | None) -> Summary:
    """Writes summary, report and best configuration from the ledger, and logs them."""
    factory, records = trial_factory(study), Ledger(folder).records()
    plans = reported_plans(study, factory, records)
    if not isinstance(study, AblationStudy):
        records = [*belonging(study, factory, records), *(r for r in records if r.phase == "confirm")]
    runs = known_runs(folder) if tracker is None else tracker.runs()
    summary = summarise(study, plans, records, read_json(folder.identity) or {}, runs)
    write_best(study, summary, folder)
    files = write_report(summary, folder)
    if tracker is not None:
        tracker.conclude(summary, [folder.study, *files, *([folder.best] if folder.best.exists() else [])])
    return summary
