"""What runs in every worker of a Ray Train group: one trial after the other, as they come in the mailbox."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from advlora.distributed import Group
from advlora.training.trainer import fine_tune
from advlora.training.workbench import Workbench
from advlora_platform.execution.places import here
from advlora_platform.execution.states import load_state, save_state
from advlora_platform.study.environment import environment, save_environment
from advlora_platform.study.failures import class_of, classify
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.messages import Message, Reported, Started
from advlora_platform.study.outcomes import save_outcomes
from advlora_platform.study.trials import Trial, TrialFactory

TRIALS_PER_GROUP = 200
"""After this many trials the group is replaced, so that memory leaked by libraries does not accumulate."""


@dataclass(frozen=True)
class Work:
    """What all trials of a study share; travels to the workers.

    Attributes:
        factory: Resolves jobs into trials.
        folder: The study folder, on storage that every node sees.
        stoppable: Whether a scheduler may stop a trial after any epoch.
    """

    factory: TrialFactory
    folder: Path
    stoppable: bool = False


def serve(settings: dict[str, Any]) -> None:
    """Serves a mailbox until it closes, or until a failure that asks for a fresh process."""
    from ray.train.torch import get_device

    work: Work = settings["work"]
    bench = Workbench(StudyFolder(work.folder).cache)
    server = _Server(settings["mailbox"], work, bench, Group.current(), get_device())
    server.announce()
    for _ in range(TRIALS_PER_GROUP):
        job = ray.get(server.mailbox.next_job.remote())
        if job is None or not server.take(*job):
            return


@dataclass
class _Server:
    mailbox: Any
    work: Work
    bench: Workbench
    group: Group
    device: torch.device
    warm: bool = False
    """Whether this process has run a trial before."""

    def announce(self) -> None:
        """Lets the mailbox decide about an unfinished job before any worker takes it."""
        if self.group.rank == 0:
            ray.get(self.mailbox.group_started.remote())
        self.group.wait()
        ray.get(self.mailbox.enrol.remote(here()))

    def take(self, number: int, config: dict[str, Any]) -> bool:
        """Runs one job; returns whether this process is fit for another."""
        try:
            self._run(number, self.work.factory.from_tune(config))
        except Exception as error:
            failure = classify(error)
            met = class_of(failure)
            ray.get(self.mailbox.fail.remote(number, failure, self.warm))
            if not met.shared and self.group.world_size > 1:
                raise  # the others wait for this worker; only a new group frees them
            return met.shared and not met.retried  # a trial is tried again by a new group
        finally:
            self.warm = True
            self._free_memory()
        self.group.wait()
        if self.group.rank == 0:
            ray.get(self.mailbox.settle.remote(number))
        self.group.wait()
        return True

    def _free_memory(self) -> None:
        """Returns the memory of the last trial, which the next one and neighbours on a shared GPU may need."""
        if self.device.type == "cuda":
            gc.collect()  # a trial's graph and model may lie in cycles
            torch.cuda.empty_cache()

    def _run(self, number: int, trial: Trial) -> None:
        folder = StudyFolder(self.work.folder).trial(trial.id)
        state = load_state(folder)
        wanted = self._tell(number, Started())
        reports = fine_tune(
            trial.config,
            self.work.factory.protocol_of(trial.phase),
            bench=self.bench,
            group=self.group,
            device=self.device,
            state=state,
            test=trial.test,
            guarded=trial.guarded,
        )
        while wanted and (report := next(reports, None)) is not None:
            if self.group.rank == 0:
                save_state(folder, report.state)
                save_outcomes(folder, report.examples)
                save_environment(folder, environment(self.device))
            said = Reported(report.epoch, report.metrics, report.final, report.unreliable)
            wanted = self._tell(number, said) and (report.final or self._may_go_on(number))

    def _tell(self, number: int, message: Message) -> bool:
        """Reports from the first worker; all workers get the same answer, whether to go on."""
        first = self.group.rank == 0
        return self.group.broadcast(bool(ray.get(self.mailbox.report.remote(number, message))) if first else False)

    def _may_go_on(self, number: int) -> bool:
        """Waits for the scheduler's decision about the last epoch, before another one costs anything.

        Every worker asks by itself: how long a slot pauses is not known, and collectives time out.
        """
        return not self.work.stoppable or self.group.broadcast(ray.get(self.mailbox.verdict.remote(number)))
