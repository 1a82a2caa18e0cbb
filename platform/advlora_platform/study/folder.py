"""The files of a study: one folder that holds everything a study knows."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from advlora.errors import UserError, first_line

STATE_FILE = "state.pt"


@dataclass(frozen=True)
class StudyFolder:
    """Names the files of a study folder, so that no other module spells them."""

    path: Path

    @property
    def study(self) -> Path:
        """The resolved study."""
        return self.path / "study.yaml"

    @property
    def identity(self) -> Path:
        """The id that ties the folder to its MLflow runs."""
        return self.path / "identity.json"

    @property
    def ledger(self) -> Path:
        """One JSON record per trial."""
        return self.path / "ledger"

    @property
    def journal(self) -> Path:
        """What Optuna knows of a sweep; `optuna-dashboard` opens it."""
        return self.path / "optuna-journal.log"

    @property
    def lease(self) -> Path:
        """Who drives the study now."""
        return self.path / "lease.json"

    @property
    def summary(self) -> Path:
        """Arms, seeds, metrics, intervals and the best configuration, for programs."""
        return self.path / "summary.json"

    @property
    def report_markdown(self) -> Path:
        """The report as text."""
        return self.path / "report.md"

    @property
    def report_html(self) -> Path:
        """The report as one self-contained page."""
        return self.path / "report.html"

    @property
    def figures(self) -> Path:
        """The figures of the report."""
        return self.path / "figures"

    @property
    def tables(self) -> Path:
        """The tables of the report as CSV and LaTeX."""
        return self.path / "tables"

    @property
    def best(self) -> Path:
        """The best configuration, ready for `advlora train`."""
        return self.path / "best.yaml"

    @property
    def ray(self) -> Path:
        """Ray's own files of the run."""
        return self.path / "ray"

    @property
    def cache(self) -> Path:
        """The k-means results that all trials share."""
        return self.path / "cache"

    @property
    def tracking(self) -> Path:
        """Where the study is tracked: store, experiment and the run of every trial."""
        return self.path / "tracking.json"

    @property
    def spool(self) -> Path:
        """Tracking calls that a tracking server did not take."""
        return self.path / "tracking-spool.jsonl"

    def trial(self, trial_id: str) -> Path:
        """The folder of a trial: its checkpoints and trained weights."""
        return self.path / "trials" / trial_id

    def state(self, trial_id: str) -> Path:
        """The last checkpoint of a trial; of a finished one, its trained weights."""
        return self.trial(trial_id) / STATE_FILE

    def error(self, trial_id: str) -> Path:
        """Why a trial failed, with the traceback where there is one."""
        return self.trial(trial_id) / "error.txt"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON in one step, flushed to disk."""
    write_text(path, json.dumps(content, indent=2, sort_keys=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one step, flushed to disk."""
    write_file(path, lambda file: file.write(text.encode()))


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file in one step: a reader, or a crash, sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")  # a process id is unique on one machine only
    try:
        with naming(path), draft.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _flush_names(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Lets an error of the storage name a file: a full disk names none, and a draft means nothing to the user."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)
        raise


def _flush_names(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every storage can
            os.fsync(handle)
    finally:
        os.close(handle)


def drafts(folder: StudyFolder) -> list[Path]:
    """Returns what killed processes left half-written; the drafts of a lease are those of whoever waits for it."""
    patterns = ("*.tmp", "ledger/*.tmp", "trials/*/*.tmp", "cache/**/*.tmp", "ray/driver-*")
    found = (path for pattern in patterns for path in folder.path.glob(pattern))
    return [path for path in found if not path.name.startswith(folder.lease.name)]


def remove_drafts(folder: StudyFolder) -> None:
    """Removes the drafts; for the driver that holds the lease, since it has no rivals."""
    for draft in drafts(folder):
        draft.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """Reads a JSON object, or None when the file does not exist.

    Raises:
        UserError: If the file holds no JSON object.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({first_line(error)}); restore it from a copy, or remove it") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged (it holds no JSON object); restore it from a copy, or remove it")
    return content
