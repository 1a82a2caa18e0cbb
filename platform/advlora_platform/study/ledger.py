"""The ledger: what became of every trial, one file each, written before anything else hears of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from advlora.errors import UserError
from advlora_platform.study.failures import Failure, class_of
from advlora_platform.study.folder import StudyFolder, read_json, write_json, write_text
from advlora_platform.study.trials import Phase, Trial

logger = logging.getLogger(__name__)
Status = Literal["running", "done", "stopped", "failed"]


@dataclass(frozen=True)
class Record:
    """What is known of one trial. A trial without a record is missing.

    Attributes:
        trial_id: Hash of all that determines the numbers.
        config: The resolved configuration, as plain data.
        status: `stopped` means that early stopping ended it; `running` is also what an interrupted driver leaves.
        metrics: The last report that held each metric; empty until the first.
        history: One entry per epoch: its metrics and `epoch`.
        failure: Why it failed, if it did.
        unreliable: Why its robust accuracy cannot be trusted; empty where no check failed.
        spans: When it ran, as Unix times: one span per time that workers took it up, to their last sign of life.
        began: Unix time at which a worker took it up first.
        ended: Unix time of the end; None while it runs.
    """

    trial_id: str
    arm: str
    seed: int
    phase: Phase
    values: dict[str, Any]
    config: dict[str, Any]
    status: Status
    metrics: dict[str, float] = field(default_factory=dict)
    history: tuple[dict[str, float], ...] = ()
    failure: Failure | None = None
    unreliable: str = ""
    spans: tuple[tuple[float, float], ...] = ()
    began: float = 0.0
    ended: float | None = None

    @property
    def settled(self) -> bool:
        """Whether the trial has ended, be it without a result: what follows from it is decided."""
        return self.status != "running"

    @property
    def repeated(self) -> bool:
        """Whether the next launch tries the trial again."""
        return self.failure is not None and not class_of(self.failure).final

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Record:
        """Rebuilds a record from plain data."""
        failure = content["failure"]
        changes = {
            "failure": None if failure is None else Failure(**failure),
            "history": tuple(content["history"]),
            "spans": tuple((began, ended) for began, ended in content.get("spans", ())),
        }
        return cls(**{**content, **changes})


def reopened(records: Iterable[Record]) -> list[Record]:
    """Returns records as a launch begins with them: a trial that it tries again counts as interrupted."""
    return [
        replace(record, status="running", failure=None, ended=None) if record.repeated else record for record in records
    ]


class Ledger:
    """An `Observer` that keeps the records of a study on disk.

    Every record is replaced in one step and flushed, so that after a crash a trial is as it was at its last report.
    """

    def __init__(self, folder: StudyFolder) -> None:
        """Opens the ledger of a study folder; it may be empty."""
        self._folder = folder

    def records(self) -> list[Record]:
        """Returns every record, oldest first; a damaged file is named and left out, so that its trial is missing."""
        records = [_read(path) for path in sorted(self._folder.ledger.glob("*.json"))]
        known = [record for record in records if record is not None]
        return sorted(known, key=lambda record: (record.began, record.trial_id))

    def record(self, trial_id: str) -> Record | None:
        """Returns the record of one trial; None where it is missing or damaged."""
        return _read(self._folder.ledger / f"{trial_id}.json")

    def trial_started(self, trial: Trial) -> None:
        """Notes that a worker has the trial; what an interrupted run reported is kept until it reports again."""
        known = self.record(trial.id) or Record(
            trial.id, trial.arm, trial.seed, trial.phase, trial.values, trial.config.model_dump(mode="json"), "running"
        )
        self._folder.error(trial.id).unlink(missing_ok=True)
        now = time.time()
        spans, began = (*known.spans, (now, now)), known.began or now
        self._write(replace(known, status="running", failure=None, spans=spans, began=began, ended=None))

    def trial_reported(self, trial: Trial, epoch: int, metrics: Mapping[str, float]) -> None:
        """Adds an epoch; a repeated one replaces what was known of it."""
        known = self._alive(trial)
        earlier = tuple(entry for entry in known.history if entry["epoch"] < epoch)
        history = (*earlier, {"epoch": epoch, **metrics})
        self._write(replace(known, history=history, metrics={**known.metrics, **metrics}))

    def trial_finished(
        self, trial: Trial, metrics: Mapping[str, float], stopped_early: bool, unreliable: str = ""
    ) -> None:
        """Notes the last metrics, and what the checks of the evaluation said."""
        status: Status = "stopped" if stopped_early else "done"
        known = replace(self._alive(trial), status=status, metrics=dict(metrics), ended=time.time())
        self._write(replace(known, unreliable=unreliable))

    def trial_failed(self, trial: Trial, failure: Failure) -> None:
        """Notes why there is no result; where it happened is written into the trial's folder."""
        known, short = self._alive(trial), replace(failure, traceback="")
        write_text(self._folder.error(trial.id), failure.text)
        self._write(replace(known, status="failed", failure=short, ended=time.time()))

    def _alive(self, trial: Trial) -> Record:
        """Returns the record of a trial that gives a sign of life."""
        if self.record(trial.id) is None:
            self.trial_started(trial)
        record = self.record(trial.id)
        assert record is not None, "just written"
        *earlier, (began, _) = record.spans or ((record.began, record.began),)
        return replace(record, spans=(*earlier, (began, time.time())))

    def _write(self, record: Record) -> None:
        write_json(self._folder.ledger / f"{record.trial_id}.json", asdict(record))


def _read(path: Path) -> Record | None:
    try:
        content = read_json(path)
        return None if content is None else Record.from_json(content)
    except UserError as error:
        _tell(error.problems[0])
    except (KeyError, TypeError, ValueError):
        _tell(f"{path} is damaged (it holds no record); restore it from a copy, or remove it")
    return None


@cache
def _tell(problem: str) -> None:
    """Says once in a process what is wrong with a file."""
    logger.warning("%s; its trial counts as missing", problem)
