"""What a kind of study answers; whoever runs, plans or reports a study asks this and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from advlora.check import check_evaluation, check_transfer, check_trial
from advlora.config import TrialConfig
from advlora.errors import did_you_mean
from advlora_platform.kinds.workload import PlannedArm
from advlora_platform.study.ledger import Record
from advlora_platform.study.metrics import selectable
from advlora_platform.study.opening import trials_of
from advlora_platform.study.spec import Study
from advlora_platform.study.trials import Trial, TrialFactory

if TYPE_CHECKING:
    from advlora_platform.analysis import Summary
    from advlora_platform.report import Report
    from advlora_platform.search.contract import StageBuilder
    from advlora_platform.search.plan import ArmPlan
    from advlora_platform.study.outcomes import Shelf

AnyStudy = TypeVar("AnyStudy", bound=Study)
AnySummary = TypeVar("AnySummary", bound="Summary")


class StudyKind(ABC, Generic[AnyStudy, AnySummary]):
    """A study, and everything that depends on its kind."""

    def __init__(self, study: AnyStudy) -> None:
        self.study = study

    @cached_property
    def trials(self) -> TrialFactory:
        """What turns values into trials; reads the manifest of the data."""
        return trials_of(self.study)

    @abstractmethod
    def problems(self) -> list[str]:
        """Returns one sentence per thing that is known to be wrong before any compute starts."""

    @abstractmethod
    def stages(self) -> tuple[StageBuilder, ...]:
        """Returns what is run one after the other; each stage is built from the records that there are by then."""

    @abstractmethod
    def reported(self, records: Sequence[Record]) -> list[ArmPlan]:
        """Returns the trials that are reported, as far as they are known."""

    def known(self, records: Sequence[Record]) -> list[Trial]:
        """Returns every trial of the study, as far as they are known: reported ones, and those that selected."""
        return [trial for plan in self.reported(records) for trial in (*plan.tuning, *plan.trials)]

    @abstractmethod
    def planned(self, records: Sequence[Record]) -> list[PlannedArm]:
        """Counts the trials, and what each costs."""

    def notes(self) -> list[str]:
        """Returns what a person should know of the design before it runs."""
        return []

    def wider(self, records: Sequence[Record]) -> dict[str, Any]:
        """Returns keys of the study that would let choices reach beyond the edges they lie at; empty without any."""
        return {}

    @abstractmethod
    def summarise(
        self,
        records: Sequence[Record],
        identity: Mapping[str, Any],
        runs: Mapping[str, str],
        outcomes: Shelf | None = None,
    ) -> AnySummary:
        """Evaluates what is known.

        Args:
            records: Everything that the ledger holds, oldest first.
            identity: `study_id`, `data_hash` and `provenance`.
            runs: Trial id -> MLflow run id.
            outcomes: What became of every example; None where that is not known.
        """

    @abstractmethod
    def report(self, summary: AnySummary) -> Report:
        """Returns what is written about a summary."""

    def constraint_problems(self) -> list[str]:
        """Checks that constraints name what a trial has on `val`, its costs or its sizes."""
        known = [str(metric) for metric in selectable(self.study.protocol)]
        problems = []
        for text, constraint in zip(self.study.constraints, self.study.limits(), strict=True):
            name = constraint.metric
            if name.startswith("test/"):
                problems.append(f"constraints: '{text}' is on test, which selects nothing; use val/{name[5:]}")
            elif name not in known:
                nearest = did_you_mean(name, ["robust", "clean", *known])
                problems.append(f"constraints: '{name}' is not a metric that selects{nearest}")
        return problems

    def transfer_problems(self) -> list[str]:
        """Checks the further data sets on which trials that are reported are measured."""
        study = self.study
        if study.transfer is None:
            return []
        return check_transfer(study.transfer, study.reported_protocol)

    def trial_problems(self, config: TrialConfig) -> list[str]:
        """Checks a trial, and whether every evaluation of the study fits it."""
        evaluations = self.study.protocols.items()
        found = [where + problem for where, each in evaluations for problem in check_evaluation(config, each)]
        return [*check_trial(config), *found]
