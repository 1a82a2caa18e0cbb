"""The contract of every searcher: what Tune, the progress display and a continued study rely on.

The life of a trial, as a searcher sees it::

    suggest(tune_id)               a flat configuration from `to_tune`; the trial now runs
      on_trial_result(tune_id)     once per report; may be ignored
      on_trial_complete(tune_id)   exactly once: the final report (`final` is true), the last one of a trial that was
                                   stopped early (`final` is false), a failure (`study.messages`), or `error` alone
                                   for a trial whose process died

A new searcher passes `tests/platform/search/searcher_contract.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.ledger import Record


class StudySearcher(Searcher, ABC):
    """Hands out the trials of one stage of a study.

    It is built from the ledger's records at every launch, as `reopened` gives them: it suggests no trial whose record
    is settled, and every one that was interrupted. Within a launch it suggests no trial twice, not even one that
    failed. `suggest` returns None while what comes next depends on trials that run, and `FINISHED` from then on when
    nothing is left.
    """

    @property
    @abstractmethod
    def total(self) -> int:
        """Number of trials of the stage, settled ones included."""

    @property
    @abstractmethod
    def remaining(self) -> int:
        """How many of them are not settled; falls to 0 as trials complete."""

    def save(self, checkpoint_path: str) -> None:
        """Saves nothing: the study folder holds everything."""

    def restore(self, checkpoint_path: str) -> None:
        """Restores nothing: the study folder holds everything."""


@dataclass(frozen=True)
class Stage:
    """One stage of a study, ready to run.

    Attributes:
        search: Suggests the trials.
        scheduler: Stops weak trials early; None for none.
    """

    search: StudySearcher
    scheduler: TrialScheduler | None = None


StageBuilder = Callable[[Sequence[Record], StudyFolder], Stage]
"""Builds a stage from what the ledger holds when the stage begins, and what a searcher keeps in the study folder."""
