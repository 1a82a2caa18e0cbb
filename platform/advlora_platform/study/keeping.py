"""Which checkpoints of a study are worth their bytes. One that a trial goes on from always is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.ledger import Record

Keep = Literal["best", "last", "all"]


def spare_states(folder: StudyFolder, records: Iterable[Record], keep: Keep, best: str | None) -> list[Path]:
    """Returns the checkpoints that may go.

    Args:
        folder: The study folder.
        records: All that the ledger holds.
        keep: What the study wants to keep.
        best: The trial that the study recommends; None while that may change, so that nothing depends on it.
    """
    ended = [record for record in records if record.settled and not record.repeated]
    states = (folder.state(record.trial_id) for record in ended if not _kept(record, keep, best))
    return [state for state in states if state.exists()]


def _kept(record: Record, keep: Keep, best: str | None) -> bool:
    if keep == "all":
        return True
    if keep == "best" and best is not None:
        return record.trial_id == best
    return record.status == "done"
