"""Which runs a study has in MLflow: each is found again by its tags, and made once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from advlora_platform.study.spec import Study
from advlora_platform.tracking.experiments import LONGEST_NAME

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Key = tuple[str, str]
"""Kind of run (`study`, `arm`, `trial`) and the arm or trial it stands for."""

STUDY: Key = ("study", "")
FAILURE_TAGS = ("advlora.failure", "advlora.failure_message")
BEST_TAG = "advlora.best"
PAGE = 1000


@dataclass
class KnownRun:
    """What is remembered of a run, so that the store need not be asked before every call.

    Attributes:
        status: In MLflow's words.
        params: The names of its parameters.
        tags: Those of its tags that are taken away again at times.
        described: Whether this launch has made sure that parameters and configuration are there.
    """

    run_id: str
    status: str
    params: set[str]
    tags: set[str]
    described: bool = False

    @classmethod
    def of(cls, run: Run) -> KnownRun:
        """Takes a run as the store describes it."""
        tags = {BEST_TAG, *FAILURE_TAGS} & run.data.tags.keys()
        return cls(str(run.info.run_id), str(run.info.status), set(run.data.params), tags)


class RunIndex:
    """Remembers the runs of one study, so that the store is asked as little as possible."""

    def __init__(self, client: MlflowClient, experiment_id: str, study: Study, study_id: str) -> None:
        """Finds the runs of earlier launches."""
        self._client, self._experiment_id = client, experiment_id
        self._study, self._study_id = study, study_id
        self._known: dict[Key, KnownRun] = {}
        self._doubtful: set[Key] = set()
        self.find()

    def __getitem__(self, key: Key) -> KnownRun:
        return self._known[key]

    def items(self) -> list[tuple[Key, KnownRun]]:
        """Returns the runs that are known, for any thread."""
        return list(self._known.items())

    def find(self) -> None:
        """Reads from the store which runs there are: those deleted meanwhile are no longer known."""
        found: dict[Key, list[Run]] = defaultdict(list)
        for run in self._search():
            found[_key(run)].append(run)
        parents = {run.data.tags.get("mlflow.parentRunId") for runs in found.values() for run in runs}
        self._known = {key: KnownRun.of(self._only(key, runs, parents)) for key, runs in found.items()}

    def look_again(self, keys: Iterable[Key]) -> None:
        """Looks for some of the runs, which may have been deleted in the UI: then they are made again."""
        for key in keys:
            run = self._look_up(key)
            if run is None:
                self._known.pop(key, None)
            elif key not in self._known or self._known[key].run_id != run.run_id:
                self._known[key] = run

    def obtain(
        self, key: Key, name: str, parent: str | None, tags: Mapping[str, str], began: int | None = None
    ) -> KnownRun:
        """Returns a run, which is made if there is none."""
        if key not in self._known:
            # A call that failed may have made the run all the same: it is looked for before another is made.
            found = self._look_up(key) if key in self._doubtful else None
            self._doubtful.add(key)
            self._known[key] = found or self._create(key, name, parent, tags, began)
            self._doubtful.discard(key)
        return self._known[key]

    def _create(self, key: Key, name: str, parent: str | None, tags: Mapping[str, str], began: int | None) -> KnownRun:
        common = {
            "advlora.study": self._study.name,
            "advlora.study_id": self._study_id,
            "advlora.study_kind": self._study.kind,
            "advlora.kind": key[0],
            "mlflow.source.name": "advlora",
            **({"mlflow.parentRunId": parent} if parent else {}),
        }
        run = self._client.create_run(self._experiment_id, began, {**common, **tags}, run_name=name[:LONGEST_NAME])
        return KnownRun.of(run)

    def _search(self, kind: str = "", trial: str = "") -> Iterator[Run]:
        """Walks over the study's runs that are not deleted, oldest first."""
        wanted = {"study_id": self._study_id, "kind": kind, "trial": trial}
        conditions = [f"tags.`advlora.{name}` = '{value}'" for name, value in wanted.items() if value]
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id],
                " and ".join(conditions),
                max_results=PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _look_up(self, key: Key) -> KnownRun | None:
        kind, name = key
        found = self._search(kind, name if kind == "trial" else "")
        return next((KnownRun.of(run) for run in found if _key(run) == key), None)

    def _only(self, key: Key, runs: Sequence[Run], parents: set[str | None]) -> Run:
        """Keeps one run of each key: a call whose answer was lost may have made another, which is empty."""
        known = self._known.get(key)

        def used(run: Run) -> bool:
            return bool(run.data.metrics) or run.info.run_id in parents

        kept = max(runs, key=lambda run: (known is not None and run.info.run_id == known.run_id, used(run)))
        for run in runs:
            if run is not kept and not used(run):
                self._client.delete_run(run.info.run_id)
        return kept


def _key(run: Run) -> Key:
    tags = run.data.tags
    return (tags["advlora.kind"], tags.get("advlora.trial") or tags.get("advlora.arm", ""))
