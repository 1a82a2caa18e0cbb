"""What stands behind `advlora clean`: the files of a study that are needed neither to continue nor to report it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from advlora_platform.launch import summarise
from advlora_platform.study import Lease, Ledger, StudyFolder, reopen
from advlora_platform.study.folder import drafts
from advlora_platform.study.keeping import Keep, spare_states


@dataclass(frozen=True)
class Clutter:
    """Files of one sort.

    Attributes:
        what: For people.
        paths: Files and folders.
        size: In bytes.
    """

    what: str
    paths: tuple[Path, ...]
    size: int


def clean(path: Path, keep: Keep | None = None, *, dry_run: bool = False) -> list[Clutter]:
    """Removes what is not needed any more.

    Args:
        path: The study folder.
        keep: Which checkpoints stay; None for what the study says.
        dry_run: Whether to look only.

    Returns:
        What was found, sort by sort; nothing where the folder is clean.

    Raises:
        UserError: If a driver works on the study, or its `study.yaml` is damaged.
    """
    with Lease(StudyFolder(path.resolve())):
        found = _clutter(path, keep)
        for clutter in () if dry_run else found:
            _remove(clutter.paths)
    return found


def _clutter(path: Path, keep: Keep | None) -> list[Clutter]:
    study, folder = reopen(path)
    records, wanted = Ledger(folder).records(), keep or study.keep
    best = summarise(study, folder, {}).settled_best if wanted == "best" else None
    sorts = {
        f"checkpoints beyond keep: {wanted}": spare_states(folder, records, wanted, best),
        "files of Ray": [folder.ray],
        "drafts of killed processes": [draft for draft in drafts(folder) if draft.parent != folder.ray],
        "damaged files that were set aside": [*folder.path.glob("*.damaged"), *folder.path.glob("trials/*/*.damaged")],
    }
    there = {what: tuple(path for path in paths if path.exists()) for what, paths in sorts.items()}
    return [Clutter(what, paths, sum(map(_size, paths))) for what, paths in there.items() if paths]


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
