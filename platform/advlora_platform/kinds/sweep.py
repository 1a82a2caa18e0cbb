"""A sweep: a search, then its finalists under a strong evaluation where the study asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from advlora.errors import did_you_mean
from advlora_platform.kinds.kind import StudyKind
from advlora_platform.kinds.workload import PlannedArm, trial_forwards
from advlora_platform.search.space import check_space, grid_problems, with_conditions
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.ledger import Record
from advlora_platform.study.metrics import selectable
from advlora_platform.study.parameters import extremes
from advlora_platform.study.sweep import ConfirmConfig, SweepStudy
from advlora_platform.study.trials import Trial

if TYPE_CHECKING:
    from advlora_platform.analysis import SweepSummary
    from advlora_platform.report import Report
    from advlora_platform.search.contract import Stage, StageBuilder
    from advlora_platform.search.plan import ArmPlan
    from advlora_platform.study.outcomes import Shelf


class Sweep(StudyKind[SweepStudy, "SweepSummary"]):
    """A study that searches a space."""

    def problems(self) -> list[str]:
        """Checks the space, the objectives, and a trial at every edge of the space."""
        study = self.study
        problems = check_space(study.parameters, study.points, study.trial_with, "parameters")
        problems += [*_objective_problems(study), *self.constraint_problems()]
        if not problems and study.search.sampler == "grid":
            problems += grid_problems(study.parameters, study.search.trials, "search")
        return problems or self._trial_problems()

    def _trial_problems(self) -> list[str]:
        everywhere, problems = self.trial_problems(self.study.trial), []
        for key, parameter in self.study.parameters.items():
            for value in extremes(parameter):
                values = with_conditions(self.study.parameters, {key: value}) or {}
                found = self.trial_problems(self.study.trial_with(values))
                problems += [f"parameters.{key} = {value}: {each}" for each in found if each not in everywhere]
        return everywhere + problems + self.transfer_problems()

    def stages(self) -> tuple[StageBuilder, ...]:
        """The search, then the confirmation."""
        return (self._search,) if self.study.confirm is None else (self._search, self._confirmation)

    def _search(self, records: Sequence[Record], folder: StudyFolder) -> Stage:
        from advlora_platform.search.contract import Stage
        from advlora_platform.search.early_stopping import build_scheduler
        from advlora_platform.search.sweep import SweepSearcher, belonging

        known = belonging(self.study, self.trials, records)
        return Stage(SweepSearcher(self.study, self.trials, known, folder), build_scheduler(self.study, known))

    def _confirmation(self, records: Sequence[Record], folder: StudyFolder) -> Stage:
        from advlora_platform.search.contract import Stage
        from advlora_platform.search.listed import ListSearcher

        return Stage(ListSearcher([trial for plan in self.reported(records) for trial in plan.trials], records))

    def reported(self, records: Sequence[Record]) -> list[ArmPlan]:
        """The finalists are reported, with every fresh seed."""
        from advlora_platform.search.finalists import confirmation_plans
        from advlora_platform.search.sweep import belonging

        return confirmation_plans(self.study, self.trials, belonging(self.study, self.trials, records))

    def known(self, records: Sequence[Record]) -> list[Trial]:
        """The trials of the search, and those that confirm its finalists."""
        from advlora_platform.search.sweep import belonging

        searched = belonging(self.study, self.trials, records)
        again = [self.trials.trial(record.arm, record.seed, record.values, record.phase) for record in searched]
        return again + super().known(records)

    def planned(self, records: Sequence[Record]) -> list[PlannedArm]:
        """One line per stage."""
        from advlora_platform.search.sweep import belonging

        study = self.study
        settled = sum(record.settled for record in belonging(study, self.trials, records))
        forwards = trial_forwards(study.trial, study.protocol, test=False)
        search = PlannedArm("search", 0, study.search.trials, settled, forwards)
        return [search] if study.confirm is None else [search, self._planned_confirmation(study.confirm, records)]

    def _planned_confirmation(self, confirm: ConfirmConfig, records: Sequence[Record]) -> PlannedArm:
        """Counts the second stage; with several objectives the Pareto set may make it longer."""
        settled = {record.trial_id for record in records if record.settled}
        trials = [trial for plan in self.reported(records) for trial in plan.trials]
        expected = max(confirm.top * len(confirm.seeds), len(trials))
        forwards = trial_forwards(self.study.trial, confirm.protocol, test=True, transfer=self.trials.transfer)
        return PlannedArm("confirmation", 0, expected, sum(trial.id in settled for trial in trials), forwards)

    def summarise(
        self,
        records: Sequence[Record],
        identity: Mapping[str, Any],
        runs: Mapping[str, str],
        outcomes: Shelf | None = None,
    ) -> SweepSummary:
        """Evaluates search and confirmation, without records of an earlier space or protocol."""
        from advlora_platform.analysis import summarise_sweep
        from advlora_platform.search.sweep import belonging

        searched = belonging(self.study, self.trials, records)
        confirmed = [record for record in records if record.phase == "confirm"]
        return summarise_sweep(self.study, self.reported(records), [*searched, *confirmed], identity, runs, outcomes)

    def report(self, summary: SweepSummary) -> Report:
        """Finalists, trials, Pareto front and importance."""
        from advlora_platform.report import sweep_report

        return sweep_report(summary)


def _objective_problems(study: SweepStudy) -> Iterator[str]:
    search = study.search
    if search.sampler == "cma-es" and len(search.objectives) > 1:
        yield "search.sampler: 'cma-es' optimises one objective only; use nsga-ii, tpe or gp for several"
    known = ["robust", "clean", *map(str, selectable(study.protocol))]
    for objective in search.objectives:
        if objective not in known:
            yield f"search.objectives: '{objective}' is not a metric of a trial{did_you_mean(objective, known)}"
    if len(set(search.objectives)) < len(search.objectives):
        yield f"search.objectives: {list(search.objectives)} names one twice"
    if search.scheduler.kind == "asha" and len(search.objectives) > 1:
        yield (
            f"search.scheduler.kind: 'asha' stops trials by one objective, and there are {len(search.objectives)}; "
            "set search.scheduler.kind=none"
        )
    if search.scheduler.kind == "asha" and study.protocol.interval == 0:
        yield (
            "protocol.interval: 0 evaluates trials at the end only, so ASHA has nothing to stop them by; "
            "set protocol.interval=1, or search.scheduler.kind=none"
        )
