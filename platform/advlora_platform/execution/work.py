"""`Work`: what all trials of a study share. Free of torch, which a slot has no need of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from advlora_platform.execution.storage import Mark
from advlora_platform.study.trials import TrialFactory

TRIALS_PER_PROCESS = 200
"""After this many trials a worker is replaced, so that memory leaked by libraries does not accumulate."""


@dataclass(frozen=True)
class Work:
    """What all trials of a study share; travels to the workers.

    Attributes:
        factory: Resolves what Tune carries into trials.
        folder: The study folder, on storage that every node sees.
        mark: What the driver has left there.
        stoppable: Whether a scheduler may stop a trial after any epoch.
    """

    factory: TrialFactory
    folder: Path
    mark: Mark
    stoppable: bool = False
