"""Study folders: a study is put into a new one, or read from an existing one; and the trials that it makes."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from advlora.config import dump_yaml, read_yaml
from advlora.data import load_manifest
from advlora.errors import UserError
from advlora_platform.study.folder import StudyFolder, read_json, write_json, write_text
from advlora_platform.study.library import read_study
from advlora_platform.study.spec import Study
from advlora_platform.study.trials import TrialFactory


def open_folder(study: Study, out: Path, provenance: Mapping[str, Any]) -> StudyFolder:
    """Makes or reopens a study folder and writes the resolved study into it.

    Args:
        study: The validated study.
        out: The folder.
        provenance: Code, versions and machine of this launch.

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
    manifest = load_manifest(study.trial.data)
    known = {"data_hash": manifest.hash, "classes": len(manifest.classes), "provenance": dict(provenance)}
    write_json(folder.identity, {**identity, **known})
    write_text(folder.study, dump_yaml(study.model_dump()))
    return folder


def reopen(path: Path) -> tuple[Study, StudyFolder]:
    """Reads the study of an existing folder.

    Raises:
        ConfigError: If its `study.yaml` is damaged.
    """
    folder = StudyFolder(path.resolve())
    return read_study(read_yaml(folder.study)), folder


def trials_of(study: Study) -> TrialFactory:
    """Returns what turns suggested values into trials of a study."""
    return TrialFactory(
        base=dict(study.base),
        protocol=study.protocol,
        data_hash=load_manifest(study.trial.data).hash,
        confirming=study.reported_protocol,
    )
