"""The runs of one study in MLflow: study > arm > trial, each found again by its tags; a search trial has no arm."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advlora.config import dump_yaml
from advlora_platform.study.spec import Study
from advlora_platform.tracking.artefacts import ArtefactError, Artefacts
from advlora_platform.tracking.events import Event, Interruption, Tracked, TrackedTrial
from advlora_platform.tracking.experiments import metric_names, obtain_experiment
from advlora_platform.tracking.index import BEST_TAG, FAILURE_TAGS, STUDY, Key, KnownRun, RunIndex
from advlora_platform.tracking.store import persistent, reason, refused

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

RETRY_TAG = "advlora.last_retry"
LONGEST_TEXT = 5000


class StudyRuns:
    """Finds or creates the runs of a study and writes events into them.

    Every method may be repeated: what is known already is found, not made a second time. One thread at a time.
    """

    def __init__(self, client: MlflowClient, study: Study, study_id: str, uri: str) -> None:
        """Opens the study's experiment and finds the runs of earlier launches.

        Raises:
            UserError: If the experiment was deleted.
        """
        self._client, self._study, self._uri = client, study, uri
        self._arms = study.arm_values
        self.experiment_id = obtain_experiment(
            client, study.name, study.description, uri, "restore it there, or give the study another name"
        )
        self._artefacts = Artefacts()
        self._index = RunIndex(client, self.experiment_id, study, study_id)
        self._logged: Event | None = None

    def find(self) -> None:
        """Reads from the store which runs there are."""
        self._index.find()

    def study(self) -> str:
        """Returns the run id of the study."""
        return self._index.obtain(
            STUDY, self._study.name, None, {"mlflow.note.content": self._study.description}
        ).run_id

    def arm(self, name: str) -> str:
        """Returns the run id of an arm."""
        run = self._index.obtain(("arm", name), name, self.study(), {"advlora.arm": name})
        if not run.described:
            self._log_params(run, {"arm": name, **self._arms.get(name, {})})
            run.described = True
        return run.run_id

    def trial(self, trial: TrackedTrial, began: int) -> str:
        """Returns the run id of a trial, which holds its parameters and its configuration."""
        tags = {
            "advlora.arm": trial.arm,
            "advlora.phase": trial.phase,
            "advlora.seed": str(trial.seed),
            "advlora.trial": trial.trial_id,
        }
        run = self._index.obtain(_trial_key(trial), self._name(trial), self._above(trial), tags, began)
        if not run.described:
            self._log_params(run, {"arm": trial.arm, "seed": trial.seed, "phase": trial.phase, **trial.values})
            text = dump_yaml(trial.config)
            run.described = self._artefacts.write(lambda: self._client.log_text(run.run_id, text, "config.yaml"))
        return run.run_id

    @property
    def study_run(self) -> str:
        """The run id of the study as it is known, without asking the store."""
        return next((run.run_id for key, run in self._index.items() if key == STUDY), "")

    def trials(self) -> dict[str, str]:
        """Returns trial id -> run id; any thread may ask."""
        return {name: run.run_id for (kind, name), run in self._index.items() if kind == "trial"}

    def open(self) -> set[Key]:
        """Returns the runs that have not ended."""
        return {key for key, run in self._index.items() if run.status == "RUNNING"}

    def answers(self) -> bool:
        """Whether the store can be written now; whatever fails all the same is at fault itself."""
        try:
            self._client.set_experiment_tag(self.experiment_id, RETRY_TAG, str(int(time.time())))
        except Exception as error:
            return refused(error)
        return True

    def look_again(self, event: Tracked) -> None:
        """Looks for the runs of an event, which may have been deleted in the UI: then they are made again."""
        self._logged = None
        if isinstance(event, Event):
            self._index.look_again(self._keys(event.trial))

    def forgo_artefacts(self, error: ArtefactError) -> bool:
        """Goes on without artefacts for a while, if enough attempts failed; returns whether it does."""
        if self._artefacts.hopeless:
            self._artefacts.rest(reason(self._uri, error))
            return True
        return False

    def apply(self, event: Tracked) -> None:
        """Writes what happened into the runs it concerns."""
        if isinstance(event, Interruption):
            self._kill_open(event.milliseconds)
            return
        self.trial(event.trial, event.milliseconds)
        run = self._index[_trial_key(event.trial)]
        if event.kind == "started":
            for key in self._keys(event.trial):
                self._reopen(self._index[key])
        elif event.kind == "reported":
            self._log(run.run_id, _points(event.metrics, event.milliseconds, event.epoch))
        else:
            self._end_trial(run, event)

    def report(self, events: Iterable[Event]) -> None:
        """Writes the reports of many epochs, those of a trial as one batch."""
        batches: dict[Key, list[Metric]] = defaultdict(list)
        for event in events:
            self.trial(event.trial, event.milliseconds)
            batches[_trial_key(event.trial)] += _points(event.metrics, event.milliseconds, event.epoch)
        for key, points in batches.items():
            self._log(self._index[key].run_id, points)

    def answer(self, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Logs what was concluded; a metric that has not changed is not logged again."""

        def log() -> None:
            known, names = self._client.get_run(run_id).data.metrics, metric_names(metrics)
            changed = {names[name]: value for name, value in metrics.items() if known.get(names[name]) != value}
            self._log(run_id, _points(changed, int(time.time() * 1000)), tags)

        persistent(log)

    def attach(self, run_id: str, file: Path, place: str | None) -> None:
        """Stores a file as an artefact; an older one of that name is replaced."""
        try:
            persistent(lambda: self._artefacts.write(lambda: self._client.log_artifact(run_id, str(file), place)))
        except ArtefactError as error:
            if not self.answers() or not self.forgo_artefacts(error):
                raise

    def end(self, run_id: str, complete: bool) -> None:
        """Ends a run: FAILED says that something is missing."""
        run = next(run for _, run in self._index.items() if run.run_id == run_id)
        persistent(lambda: self._terminate(run, "FINISHED" if complete else "FAILED"))

    def mark_best(self, trial: str | None) -> None:
        """Tags the run of the best trial, and no other."""
        for key, run in self._index.items():
            if key == ("trial", trial):
                persistent(partial(self._client.set_tag, run.run_id, BEST_TAG, "true"))
                run.tags.add(BEST_TAG)
            elif BEST_TAG in run.tags:
                persistent(partial(self._remove_tag, run, BEST_TAG))

    def _kill_open(self, milliseconds: int) -> None:
        for key in self.open():
            try:
                self._terminate(self._index[key], "KILLED", milliseconds)
            except Exception as error:
                if not refused(error):
                    raise  # refused: it was deleted in the UI

    def _end_trial(self, run: KnownRun, event: Event) -> None:
        if self._logged != event:  # else it was logged by an attempt that failed afterwards
            metrics, tags = _told_at_the_end(event)
            self._log(run.run_id, _points(metrics, event.milliseconds), tags)
            self._logged = event
        if event.failure is not None:
            text = event.failure.text
            self._artefacts.write(lambda: self._client.log_text(run.run_id, text, "error.txt"))
            run.tags.update(FAILURE_TAGS)
        self._terminate(run, "FINISHED" if event.failure is None else "FAILED", event.milliseconds)

    def _log(self, run_id: str, points: Sequence[Metric], tags: Mapping[str, str] | None = None) -> None:
        """Logs one batch; the client splits what is too long for one."""
        from mlflow.entities import RunTag

        told = [RunTag(name, value) for name, value in (tags or {}).items()]
        self._client.log_batch(run_id, metrics=points, tags=told)

    def _log_params(self, run: KnownRun, values: Mapping[str, Any]) -> None:
        """Logs the parameters that a run does not have yet: MLflow refuses to change one."""
        from mlflow.entities import Param

        names = metric_names(values)
        params = [Param(names[key], str(value)[:LONGEST_TEXT]) for key, value in values.items()]
        missing = [param for param in params if param.key not in run.params]
        if missing:
            self._client.log_batch(run.run_id, params=missing)
            run.params.update(param.key for param in missing)

    def _reopen(self, run: KnownRun) -> None:
        """Marks a run as running again, without the failure it may have ended with."""
        for tag in FAILURE_TAGS:
            self._remove_tag(run, tag)
        if run.status != "RUNNING":
            self._client.update_run(run.run_id, status="RUNNING")
            run.status = "RUNNING"

    def _remove_tag(self, run: KnownRun, tag: str) -> None:
        if tag not in run.tags:
            return
        try:
            self._client.delete_tag(run.run_id, tag)
        except Exception as error:
            if not refused(error):
                raise  # refused: an attempt whose answer was lost has removed it
        run.tags.discard(tag)

    def _terminate(self, run: KnownRun, status: str, milliseconds: int | None = None) -> None:
        self._client.set_terminated(run.run_id, status, milliseconds)
        run.status = status

    def _keys(self, trial: TrackedTrial) -> list[Key]:
        """Lists the runs that a trial concerns, from the study downwards."""
        arm = [] if trial.phase == "search" else [("arm", trial.arm)]
        return [STUDY, *arm, _trial_key(trial)]

    def _above(self, trial: TrackedTrial) -> str:
        """Returns the run that a trial lies under."""
        return self.study() if trial.phase == "search" else self.arm(trial.arm)

    def _name(self, trial: TrackedTrial) -> str:
        if trial.phase == "ablate":
            return f"{trial.arm} · seed {trial.seed}"
        fixed = self._arms.get(trial.arm, {})
        varied = {key: value for key, value in trial.values.items() if key not in fixed}
        short = ", ".join(f"{key}={_short(value)}" for key, value in _short_keys(varied).items())
        return f"tune · {short}" if trial.phase == "tune" else short or "base"


def _points(metrics: Mapping[str, float], milliseconds: int, step: int = 0) -> list[Metric]:
    """Writes metrics as MLflow takes them."""
    from mlflow.entities import Metric

    names = metric_names(metrics)
    return [Metric(names[name], float(value), milliseconds, step) for name, value in metrics.items()]


def _trial_key(trial: TrackedTrial) -> Key:
    return ("trial", trial.trial_id)


def _told_at_the_end(event: Event) -> tuple[dict[str, float], dict[str, str]]:
    """Returns the metrics and the tags that a trial ends with."""
    if event.failure is not None:
        told = (event.failure.kind, event.failure.message[:LONGEST_TEXT])
        return {}, dict(zip(FAILURE_TAGS, told, strict=True))
    tags = {"advlora.stopped_early": str(event.stopped_early).lower(), "guard/unreliable": event.unreliable}
    return {f"final/{name}": value for name, value in event.metrics.items()}, tags


def _short_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Shortens dotted keys to their last part, or to two where the last one alone is ambiguous.

    A switch is named by what it switches, and the kind of a method by what the method is for.
    """
    bare = {key.removesuffix(".enabled").removesuffix(".kind"): value for key, value in values.items()}
    last = Counter(key.rpartition(".")[2] for key in bare)
    return {".".join(key.split(".")[-1 if last[key.rpartition(".")[2]] == 1 else -2 :]): v for key, v in bare.items()}


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
