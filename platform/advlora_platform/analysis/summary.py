"""`Summary`: what every study found, as plain data. It is the content of `summary.json`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from advlora_platform.analysis.arms import ArmResult
from advlora_platform.analysis.best import Recommendation
from advlora_platform.analysis.metrics import Metrics
from advlora_platform.analysis.trials import TrialResult
from advlora_platform.study.ledger import Record
from advlora_platform.study.spec import Study

STATUSES = ("done", "running", "stopped", "failed")


@dataclass(frozen=True)
class FailedTrial:
    """A trial that ended without a result."""

    arm: str
    seed: int
    phase: str
    trial_id: str
    kind: str
    message: str
    mlflow_run_id: str | None


@dataclass(frozen=True)
class Summary(ABC):
    """What a study found so far; each kind adds its own answers.

    Attributes:
        study: Name of the study.
        kind: Kind of the study.
        description: From the study's YAML.
        study_id: Ties it to its folder and its MLflow runs.
        protocol: What an accuracy means, in one clause.
        metrics: What it is judged by.
        confidence: Coverage of every interval.
        seeds: Seeds of every arm; the seed of a sweep whose finalists are not confirmed.
        counts: Trials by status: `planned`, `done`, `running`, `stopped`, `failed`, `missing`.
        arms: What is reported, with every seed: the arms of an ablation, the finalists of a sweep.
        best: The recommended configuration; None where nothing qualifies.
        failures: Every trial that failed, tuning included.
        data_hash: Hash of the data.
        provenance: Code, versions, machine.
    """

    study: str
    kind: str
    description: str
    study_id: str
    protocol: str
    metrics: Metrics
    confidence: float
    seeds: tuple[int, ...]
    counts: dict[str, int]
    arms: tuple[ArmResult, ...]
    best: Recommendation | None
    failures: tuple[FailedTrial, ...]
    data_hash: str
    provenance: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.counts["running"] == 0 and self.counts["done"] > 0

    @property
    def required(self) -> tuple[TrialResult, ...]:
        """The trials without whose results the study is not complete: those that are reported.

        Tuning inside an arm may fail as long as the arm's own trials do not.
        """
        return tuple(trial for arm in self.every_arm for trial in arm.trials)

    @property
    def settled_best(self) -> str | None:
        """The trial that is recommended; None where there is none, or where a trial without result may change that."""
        whole = all(trial.status in {"done", "stopped"} for trial in self.required)
        return self.best.trial_id if self.best is not None and self.complete and whole else None

    @property
    def every_arm(self) -> tuple[ArmResult, ...]:
        """All arms that have trials of their own, also those beside the main table."""
        return self.arms

    @abstractmethod
    def answers(self) -> dict[str, float]:
        """Returns the numbers that answer the study's question, by the names they have in the tracker."""

    def verdicts(self) -> dict[str, str]:
        """Returns the verdicts on differences by the names they have in the tracker; a study may have none."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """Returns plain finite data; what is not a number is None."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def named_after(study: Study, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a summary that say which study it is about, on which data, and made by which code."""
    return {
        "study": study.name,
        "kind": study.kind,
        "description": study.description,
        "study_id": identity["study_id"],
        "protocol": study.protocol.describe(identity.get("classes", 0)),
        "data_hash": identity["data_hash"],
        "provenance": dict(identity["provenance"]),
    }


def failures(records: Sequence[Record], runs: Mapping[str, str]) -> tuple[FailedTrial, ...]:
    """Lists the records that ended without a result."""
    return tuple(
        FailedTrial(r.arm, r.seed, r.phase, r.trial_id, r.failure.kind, r.failure.message, runs.get(r.trial_id))
        for r in records
        if r.failure is not None
    )


def _plain(content: Any) -> Any:
    """Makes tuples lists, keys text, and numbers that JSON cannot hold None."""
    if isinstance(content, Mapping):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
