"""What Optuna knows of a sweep, kept in the study folder: a continued search draws on as if nothing had happened.

The ledger stays the only truth about trials; every launch brings the journal in line with it. What only Optuna knows is
the state of its samplers: generations, populations, the distribution of CMA-ES. `optuna-dashboard` opens the file.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.trial import TrialState

from advlora.identity import fingerprint
from advlora_platform.search.journal_file import open_storage
from advlora_platform.search.samplers import WITH_POPULATION, build_sampler
from advlora_platform.search.space import suggest
from advlora_platform.study.failures import Failure, class_of
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.ledger import Record, Status
from advlora_platform.study.sweep import SweepStudy
from advlora_platform.study.trials import TrialFactory

ARM = "search"
TRIAL, REASON = "trial", "reason"
"""User attributes in the journal: our id of a trial, and why it has no value."""
INFEASIBLE = "fails"
"""Name of the constraint that says of a configuration that it cannot be run: above 0 where it cannot."""
GOAL = {"max": "maximize", "min": "minimize"}


class Journal:
    """Asks Optuna for configurations, and tells it what became of them."""

    def __init__(self, study: SweepStudy, factory: TrialFactory, folder: StudyFolder) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._spec = study
        self._metrics = [str(metric) for metric in study.objectives()]
        self._storage = open_storage(folder.journal)
        self._study = _study(study, _name(study, factory), self._storage)

    def catch_up(self, records: Iterable[Record]) -> None:
        """Ends the attempts that a dead driver left open, and learns the settled trials that the journal misses."""
        settled = {record.trial_id: record for record in records if record.settled}
        if self._told() - settled.keys():  # it is older than the ledger, or of another one
            self._begin_anew()
        self._end_open_attempts()
        known = self._told()
        missing = [record for trial_id, record in settled.items() if trial_id not in known]
        for number, record in enumerate(missing, start=len(known)):
            trial, _ = self.ask((number, 0), record.values)
            self.name(trial, record.trial_id)
            self.report_history(trial, record)
            self.tell(trial, record.status, record.metrics, record.failure)

    def ask(
        self, place: tuple[int, int], values: Mapping[str, Any] | None = None
    ) -> tuple[optuna.Trial, dict[str, Any]]:
        """Returns an attempt at a configuration.

        Args:
            place: How many trials there are already, and how often one was drawn since the last new one. The draw
                follows from it and from what is known, whatever was drawn by this process before.
            values: The configuration; None lets the sampler draw one.
        """
        search = self._spec.search
        seed = int(np.random.SeedSequence((search.seed, *place)).generate_state(1)[0])
        self._study.sampler = build_sampler(search.sampler, seed, search.trials, len(self._spec.parameters))
        if values is not None:
            self._study.enqueue_trial(dict(values))
        trial = self._study.ask()
        if search.sampler in WITH_POPULATION:
            trial.relative_params  # noqa: B018  # asked for nothing, the sampler would not count a given configuration
        return trial, suggest(trial, self._spec.parameters)

    def name(self, trial: optuna.Trial, trial_id: str) -> None:
        """Notes which of our trials an attempt is."""
        trial.set_user_attr(TRIAL, trial_id)

    def report(self, trial: optuna.Trial, epoch: int, metrics: Mapping[str, float]) -> None:
        """Tells an epoch, by which trials that are stopped early are compared; not every epoch is evaluated."""
        if len(self._metrics) == 1 and self._metrics[0] in metrics:
            trial.report(metrics[self._metrics[0]], epoch)

    def report_history(self, trial: optuna.Trial, record: Record) -> None:
        """Tells all epochs of a record."""
        for entry in record.history:
            self.report(trial, int(entry["epoch"]), entry)

    def tell(
        self, trial: optuna.Trial, status: Status, metrics: Mapping[str, float], failure: Failure | None = None
    ) -> None:
        """Ends an attempt: with its values, as pruned, as infeasible, or as one from which nothing is learned."""
        values = [metrics.get(name, math.nan) for name in self._metrics]
        if failure is not None and class_of(failure).final:
            self._tell_infeasible(trial, failure)
        elif status == "done" and all(map(math.isfinite, values)):
            self._constrain(trial, 0.0)
            self._tell(trial, values)
        elif status == "stopped":
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self.drop(trial, "no value" if failure is None else f"{failure.kind}: {failure.message}")

    def drop(self, trial: optuna.Trial, reason: str) -> None:
        """Ends an attempt from which nothing is learned."""
        trial.set_user_attr(REASON, reason)
        self._study.tell(trial, state=TrialState.FAIL)

    def _tell_infeasible(self, trial: optuna.Trial, failure: Failure) -> None:
        """Tells a configuration that cannot be run.

        Optuna's samplers ignore trials that failed. TPE, GP and NSGA-II heed the constraint, and the latter two only
        of complete trials; CMA-ES knows no constraints, and ranks by the value. So it is given the worst one so far.
        """
        trial.set_user_attr(REASON, f"{failure.kind}: {failure.message}")
        self._constrain(trial, 1.0)
        done = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not done:
            self._study.tell(trial, state=TrialState.PRUNED)
            return
        columns = zip(*(each.values for each in done), strict=True)
        objectives = self._spec.objectives()
        self._tell(trial, [(min if o.direction == "max" else max)(c) for o, c in zip(objectives, columns, strict=True)])

    def _tell(self, trial: optuna.Trial, values: Sequence[float]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # CMA-ES says of every constraint that it does not use it
            self._study.tell(trial, values)

    def _constrain(self, trial: optuna.Trial, violation: float) -> None:
        trial.set_constraint(INFEASIBLE, violation)

    def _begin_anew(self) -> None:
        name, storage = self._study.study_name, self._storage
        optuna.delete_study(study_name=name, storage=storage)
        self._study = _study(self._spec, name, storage)

    def _told(self) -> set[str]:
        """Returns our ids of the trials that have ended."""
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        return {trial.user_attrs[TRIAL] for trial in self._study.get_trials(deepcopy=False, states=states)}

    def _end_open_attempts(self) -> None:
        while self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._study.ask()
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)


def _name(study: SweepStudy, factory: TrialFactory) -> str:
    """Names Optuna's study after the space, the objectives and the trials, so that an edited sweep gets another one."""
    space = {key: parameter.model_dump(mode="json") for key, parameter in study.parameters.items()}
    base, objectives = factory.trial(ARM, study.seed, {}, "search").id, [str(each) for each in study.objectives()]
    return f"{study.name} {fingerprint(base, space, objectives)[:8]}"


def _study(study: SweepStudy, name: str, storage: JournalStorage) -> optuna.Study:
    objectives = study.objectives()
    opened = optuna.create_study(
        study_name=name,
        storage=storage,
        directions=[GOAL[each.direction] for each in objectives],
        load_if_exists=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if opened.metric_names is None:
            opened.set_metric_names([str(each) for each in objectives])
    return opened
