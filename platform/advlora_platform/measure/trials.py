"""From the MLflow run of a finished trial to its model, which lies in the folder of its study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from advlora.config import TrialConfig, parse
from advlora.errors import ConfigError
from advlora_platform.measure.subject import Subject
from advlora_platform.study.folder import StudyFolder, read_json
from advlora_platform.study.ledger import Ledger
from advlora_platform.tracking.store import database_file, explained, open_store, public_uri, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities import Run


def load_trial(run_id: str, study: Path | None = None) -> Subject:
    """Rebuilds the model of a trial.

    Args:
        run_id: Identity of its MLflow run.
        study: Folder of its study; None looks below `runs/`, here and in the folder of the store.

    Raises:
        UserError: If the store cannot be used, the run is no finished trial, or its files are not there any more.
    """
    from advlora_platform.execution.states import rebuild  # loads Ray

    run = _trial_run(run_id)
    tags = run.data.tags
    folder = _study_folder(run, study)
    record = Ledger(folder).record(tags["advlora.trial"])
    if record is None or record.status != "done":
        raise ConfigError(f"trial {tags['advlora.trial']} of run '{run_id}' has not finished in {folder.path}")
    config = parse(TrialConfig, record.config)
    adapted, _ = rebuild(config, folder.trial(record.trial_id))
    return Subject(
        network=adapted.model.requires_grad_(False),
        name=f"{tags['advlora.study']}/{run.info.run_name}",
        kind="trial",
        base=config.model,
        changed=adapted.trainable > 0,
        frozen=adapted.frozen,
        merges=adapted.mergeable,
        run=run_id,
        trial_id=record.trial_id,
    )


def _trial_run(run_id: str) -> Run:
    from mlflow.exceptions import MlflowException

    uri = tracking_uri()
    client = open_store(uri)
    with explained(uri):
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise ConfigError(f"the MLflow store {public_uri(uri)} has no run '{run_id}'") from None
    kind = run.data.tags.get("advlora.kind", "run of another program")
    if kind != "trial":
        raise ConfigError(f"run '{run_id}' ({run.info.run_name}) is no trial but: {kind}; name the run of a trial")
    return run


def _study_folder(run: Run, study: Path | None) -> StudyFolder:
    """Finds the folder by the study's id, which folder and run share."""
    tags = run.data.tags
    for path in _candidates(study):
        identity = read_json(StudyFolder(path).identity)
        if identity is not None and identity["study_id"] == tags["advlora.study_id"]:
            return StudyFolder(path)
    looked = "runs/" if study is None else str(study)
    raise ConfigError(
        f"the folder of study '{tags['advlora.study']}', to which run '{run.info.run_id}' belongs, is not in {looked}; "
        "name it with --study FOLDER, or train again"
    )


def _candidates(study: Path | None) -> Iterator[Path]:
    if study is not None:
        yield study
        return
    store = database_file(tracking_uri())
    for place in (Path(), *([store.parent] if store is not None else [])):
        yield from sorted(file.parent for file in place.glob("runs/*/identity.json"))
