"""Study folders: a study is put into a new one, or read from an existing one; and the trials that it makes."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from advlora.config import dump_yaml, read_yaml
from advlora.data import load_manifest
from advlora.data.transfer import transfer_hash, transfer_sets
from advlora.errors import UserError
from advlora.identity import fingerprint
from advlora_platform.study.folder import StudyFolder, read_json, write_json, write_text
from advlora_platform.study.library import read_study
from advlora_platform.study.spec import Study
from advlora_platform.study.trials import TrialFactory

DIGITS = 6
"""Of the hash in the name of a folder whose own name is taken."""
FEW, LONGEST = 3, 120
"""How many differences are named, and how many characters of each."""


def open_folder(study: Study, out: Path, provenance: Mapping[str, Any]) -> StudyFolder:
    """Makes or reopens a study folder and writes the resolved study into it.

    Args:
        study: The validated study.
        out: The folder.
        provenance: Code, versions and machine of this launch.

    Raises:
        UserError: If the folder holds another study.
    """
    folder = StudyFolder(out.resolve())
    if other := differences(study, out):
        raise UserError(f"{out} holds another study: {_few(other)}; choose another folder with --out")
    identity = read_json(folder.identity)
    if identity is None:
        identity = {"study_id": uuid.uuid4().hex[:12], "name": study.name, "kind": study.kind}
    manifest = load_manifest(study.trial.data)
    known = {"data_hash": manifest.hash, "classes": len(manifest.classes), "provenance": dict(provenance)}
    write_json(folder.identity, {**identity, **known})
    write_text(folder.study, dump_yaml(study.model_dump()))
    return folder


def home(study: Study, runs: Path = Path("runs")) -> tuple[Path, str]:
    """Returns the folder that a study belongs to where none is chosen, and why it is not the one of its name.

    That is `runs/NAME`, unless it holds another study; then the one beside it that holds this one, or a new one.
    """
    named = runs / study.name
    if not (other := differences(study, named)):
        return named, ""
    beside = [folder for folder in sorted(runs.glob(f"{study.name}-*")) if StudyFolder(folder).study.is_file()]
    known = next((folder for folder in beside if not differences(study, folder)), None)
    folder = known or runs / f"{study.name}-{fingerprint(study.content)[:DIGITS]}"
    return folder, f"{named} holds another study: {_few(other)}; this one is in {folder}"


def differences(study: Study, path: Path) -> list[str]:
    """Returns what of the study in a folder a study would change, one clause each; none where it only adds to it."""
    if not StudyFolder(path).study.is_file():
        return []
    try:
        held = reopen(path)[0].content
    except UserError as error:
        return [f"its study.yaml cannot be read ({error.problems[0]})"]
    content, none = study.content, object()
    return [
        f"{key} is {_shown(value)} there and {_shown(content.get(key, 'absent'))} here"
        for key, value in held.items()
        if content.get(key, none) != value
    ]


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _few(clauses: Sequence[str]) -> str:
    shown = [clause if len(clause) <= LONGEST else f"{clause[:LONGEST]}..." for clause in clauses[:FEW]]
    more = len(clauses) - len(shown)
    return ", ".join(shown) + (f" and {more} more differences" if more else "")


def reopen(path: Path) -> tuple[Study, StudyFolder]:
    """Reads the study of an existing folder.

    Raises:
        ConfigError: If its `study.yaml` is damaged.
    """
    folder = StudyFolder(path.resolve())
    return read_study(read_yaml(folder.study)), folder


def trials_of(study: Study) -> TrialFactory:
    """Returns what turns suggested values into trials of a study.

    Raises:
        DataError: If a data set of the study is missing.
    """
    sets = () if study.transfer is None else transfer_sets(study.transfer)
    return TrialFactory(
        base=dict(study.base),
        protocol=study.protocol,
        data_hash=load_manifest(study.trial.data).hash,
        confirming=study.reported_protocol,
        transfer=sets,
        transfer_hash=transfer_hash(sets),
    )
