"""`advlora export --pack`: everything that another person needs to get the numbers of a study again, in one folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from advlora.config import TrialConfig, parse
from advlora.data import load_manifest
from advlora.data.transfer import NamedSet
from advlora.errors import UserError
from advlora.metrics import TRANSFER
from advlora_platform.export import Pack, installed, provenance, seal, uncommitted
from advlora_platform.export.pack import LOCK, PATCH
from advlora_platform.kinds import kind_of
from advlora_platform.launch import conclude
from advlora_platform.study import Ledger, Record, Study, StudyFolder, trials_of
from advlora_platform.study.environment import ENVIRONMENT_FILE
from advlora_platform.study.folder import write_file, write_json, write_text
from advlora_platform.study.library import VERBS
from advlora_platform.study.outcomes import OUTCOMES_FILE

_README = """# Reproduction pack of the {kind} '{name}'

It holds the study, {done} finished trials with every metric, outcome, device and version, and what they were made by.
PACK stands for this folder.

1. In a clean clone of the project: `git checkout {commit}`{patch}
2. `pip install -r PACK/{lock}`, then `pip install --no-deps -e .`. A version that ends in `+cpu` or `+cu128` comes from
   PyTorch's own index, whose address its installation page gives: add it by `--extra-index-url`.
3. `advlora verify PACK` runs every trial again and says whether it comes out; `--trials 5` draws five of them.

To run the whole study from nothing: `advlora {verb} PACK/study.yaml --out runs/again`.
"""
_PATCHED = f", then `git apply PACK/{PATCH}`: the code had changes that no commit holds"


def write_pack(study: Study, folder: StudyFolder, target: Path) -> Pack:
    """Writes the pack of a study.

    Args:
        study: The study.
        folder: Where it has run.
        target: A folder that does not exist yet, or is empty.

    Raises:
        UserError: If the target is not empty, or this code cannot repeat any finished trial.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"'{target}' exists already; a pack needs a new or empty folder")
    records = repeatable(study, Ledger(folder).records())
    done = [record for record in records if record.status == "done"]
    if not done:
        raise UserError(f"study '{study.name}' has no finished trial that this version of the code can repeat")
    target.mkdir(parents=True, exist_ok=True)
    pack = StudyFolder(target.resolve())
    for file in (folder.study, folder.identity):
        shutil.copyfile(file, pack.path / file.name)
    for record in records:
        _copy(record, folder, pack)
    conclude(study, pack)
    code = _write_code(target, study, len(done))
    data = data_hashes(done, trials_of(study).transfer)
    return seal(target, {"study": study.name, "kind": study.kind, "data": data, "code": code})


def repeatable(study: Study, records: Sequence[Record]) -> list[Record]:
    """Returns the records of the study as it is now, under the names it has now, made by the code as it is now."""
    trials = {trial.id: trial for trial in kind_of(study).known(records)}
    known = [(record, trials[record.trial_id]) for record in records if record.trial_id in trials]
    return [replace(record, arm=trial.arm, values=trial.values) for record, trial in known]


def data_hashes(records: Iterable[Record], transfer: Iterable[NamedSet] = ()) -> dict[str, str]:
    """Returns data set -> hash of its content, of every data set that the trials use here, further ones included."""
    configs = {record.config["data"]["name"]: record.config for record in records}
    own = {name: load_manifest(parse(TrialConfig, config).data).hash for name, config in configs.items()}
    return own | {f"{TRANSFER}/{each.name}": each.manifest.hash for each in transfer}


def _copy(record: Record, folder: StudyFolder, pack: StudyFolder) -> None:
    write_json(pack.ledger / f"{record.trial_id}.json", asdict(record))
    for name in (OUTCOMES_FILE, ENVIRONMENT_FILE):
        file = folder.trial(record.trial_id) / name
        if file.is_file():
            pack.trial(record.trial_id).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, pack.trial(record.trial_id) / name)


def _write_code(target: Path, study: Study, done: int) -> dict[str, object]:
    """Writes by what code the numbers were made, and what to do with it."""
    source, patch = provenance(), uncommitted()
    if patch:
        write_file(target / PATCH, lambda file: file.write(patch))
    write_text(target / LOCK, "\n".join(installed()) + "\n")
    text = _README.format(
        kind=study.kind,
        name=study.name,
        done=done,
        commit=source["commit"] or "COMMIT",
        patch=_PATCHED if patch else "",
        lock=LOCK,
        verb=VERBS[study.kind],
    )
    write_text(target / "README.md", text)
    return source
