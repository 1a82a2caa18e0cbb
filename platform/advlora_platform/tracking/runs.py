"""The runs of one study in MLflow: study > arm > trial, each found again by its tags; a search trial has no arm."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from advlora_platform.study.spec import Study
from advlora_platform.tracking.events import Event, TrackedTrial
from advlora_platform.tracking.experiments import LONGEST_NAME, METRICS_PER_CALL, metric_name, obtain_experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Key = tuple[str, str]
"""Kind of run (`study`, `arm`, `trial`) and the arm or trial it stands for."""

STUDY: Key = ("study", "")
FAILURE_TAGS = ("advlora.failure", "advlora.failure_message")
BEST_TAG = "advlora.best"
LONGEST_TEXT = 5000
PAGE = 1000


class StudyRuns:
    """Finds or creates the runs of a study and writes events into them.

    Every method may be repeated: what is known already is found, not made a second time.
    """

    def __init__(self, client: MlflowClient, study: Study, study_id: str, uri: str) -> None:
        """Opens the study's experiment and finds the runs of earlier launches.

        Raises:
            UserError: If the experiment was deleted.
        """
        self._client, self._study, self._study_id = client, study, study_id
        self._arms = study.arm_values
        self.experiment_id = obtain_experiment(
            client, study.name, study.description, uri, "restore it there, or give the study another name"
        )
        self._known: dict[Key, Run] = {}
        self._described: set[str] = set()
        self.find()

    def find(self) -> None:
        """Reads from the store which runs there are: those deleted meanwhile are no longer known."""
        known: dict[Key, Run] = {}
        for run in self._search():
            tags = run.data.tags
            known.setdefault((tags["advlora.kind"], tags.get("advlora.trial") or tags.get("advlora.arm", "")), run)
        self._known, self._described = known, set()

    def study(self) -> str:
        """Returns the run id of the study."""
        return self._obtain(STUDY, self._study.name, None, {"mlflow.note.content": self._study.description})

    def arm(self, name: str) -> str:
        """Returns the run id of an arm."""
        run_id = self._obtain(("arm", name), name, self.study(), {"advlora.arm": name})
        if run_id not in self._described:
            self._log_params(run_id, {"arm": name, **self._arms.get(name, {})})
            self._described.add(run_id)
        return run_id

    def trial(self, trial: TrackedTrial, began: int) -> str:
        """Returns the run id of a trial, which holds its parameters and its configuration."""
        tags = {
            "advlora.arm": trial.arm,
            "advlora.phase": trial.phase,
            "advlora.seed": str(trial.seed),
            "advlora.trial": trial.trial_id,
        }
        run_id = self._obtain(("trial", trial.trial_id), self._name(trial), self._above(trial), tags, began)
        if run_id not in self._described:
            self._log_params(run_id, {"arm": trial.arm, "seed": trial.seed, "phase": trial.phase, **trial.values})
            self._client.log_text(run_id, yaml.safe_dump(trial.config, sort_keys=False), "config.yaml")
            self._described.add(run_id)
        return run_id

    def trials(self) -> dict[str, str]:
        """Returns trial id -> run id."""
        return {name: run.info.run_id for (kind, name), run in self._known.items() if kind == "trial"}

    def open_trials(self) -> set[str]:
        """Returns the trials whose run had not ended when it was last looked at."""
        return {name for (kind, name), run in self._known.items() if kind == "trial" and run.info.status == "RUNNING"}

    def apply(self, event: Event) -> None:
        """Writes what happened to a trial into its run."""
        trial, run_id = event.trial, self.trial(event.trial, event.milliseconds)
        if event.kind == "started":
            for each in (self.study(), self._above(trial), run_id):
                self._reopen(each)
        elif event.kind == "reported":
            self._log(run_id, event.metrics, {}, event.milliseconds, event.epoch)
        elif event.kind == "finished":
            final = {f"final/{name}": value for name, value in event.metrics.items()}
            tags = {"advlora.stopped_early": str(event.stopped_early).lower(), "guard/unreliable": event.unreliable}
            self._log(run_id, final, tags, event.milliseconds)
            self._client.set_terminated(run_id, "FINISHED", event.milliseconds)
        elif event.failure is not None:
            told = (event.failure.kind, event.failure.message[:LONGEST_TEXT])
            self._log(run_id, {}, dict(zip(FAILURE_TAGS, told, strict=True)), event.milliseconds)
            self._client.set_terminated(run_id, "FAILED", event.milliseconds)

    def answer(self, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Logs what was concluded; a metric that has not changed is not logged again."""
        known = self._client.get_run(run_id).data.metrics
        changed = {name: value for name, value in metrics.items() if known.get(metric_name(name)) != value}
        self._log(run_id, changed, tags, int(time.time() * 1000))

    def attach(self, run_id: str, file: Path, place: str | None) -> None:
        """Stores a file as an artefact; an older one of that name is replaced."""
        self._client.log_artifact(run_id, str(file), place)

    def end(self, run_id: str, complete: bool) -> None:
        """Ends a run: FAILED says that something is missing."""
        self._client.set_terminated(run_id, "FINISHED" if complete else "FAILED")

    def mark_best(self, trial: str | None) -> None:
        """Tags the run of the best trial, and no other."""
        for (kind, name), run in self._known.items():
            if kind == "trial" and name == trial:
                self._client.set_tag(run.info.run_id, BEST_TAG, "true")
            elif BEST_TAG in run.data.tags:
                self._client.delete_tag(run.info.run_id, BEST_TAG)

    def _log(
        self, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str], milliseconds: int, step: int = 0
    ) -> None:
        from mlflow.entities import Metric, RunTag

        batch = [Metric(metric_name(name), float(value), milliseconds, step) for name, value in metrics.items()]
        labels = [RunTag(name, value) for name, value in tags.items()]
        for begin in range(0, max(len(batch), 1), METRICS_PER_CALL):
            self._client.log_batch(run_id, metrics=batch[begin : begin + METRICS_PER_CALL], tags=labels)

    def _search(self) -> Iterator[Run]:
        """Walks over the study's runs that are not deleted, oldest first."""
        token = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id],
                f"tags.`advlora.study_id` = '{self._study_id}'",
                max_results=PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _obtain(
        self, key: Key, name: str, parent: str | None, tags: Mapping[str, str], began: int | None = None
    ) -> str:
        if key not in self._known:
            common = {
                "advlora.study": self._study.name,
                "advlora.study_id": self._study_id,
                "advlora.study_kind": self._study.kind,
                "advlora.kind": key[0],
                "mlflow.source.name": "advlora",
                **({"mlflow.parentRunId": parent} if parent else {}),
            }
            self._known[key] = self._client.create_run(
                self.experiment_id, began, {**common, **tags}, run_name=name[:LONGEST_NAME]
            )
        return str(self._known[key].info.run_id)

    def _log_params(self, run_id: str, values: Mapping[str, Any]) -> None:
        """Logs the parameters that a run does not have yet: MLflow refuses to change one."""
        from mlflow.entities import Param

        known = self._client.get_run(run_id).data.params
        params = [Param(metric_name(key), str(value)[:LONGEST_TEXT]) for key, value in values.items()]
        self._client.log_batch(run_id, params=[param for param in params if param.key not in known])

    def _reopen(self, run_id: str) -> None:
        """Marks a run as running again, without the failure it may have ended with."""
        run = self._client.get_run(run_id)
        for tag in FAILURE_TAGS:
            if tag in run.data.tags:
                self._client.delete_tag(run_id, tag)
        if run.info.status != "RUNNING":
            self._client.update_run(run_id, status="RUNNING")

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


def _short_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Shortens dotted keys to their last part, or to two where the last one alone is ambiguous."""
    last = Counter(key.rpartition(".")[2] for key in values)
    return {".".join(key.split(".")[-1 if last[key.rpartition(".")[2]] == 1 else -2 :]): v for key, v in values.items()}


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
