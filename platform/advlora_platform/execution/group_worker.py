"""What runs in every worker of a Ray Train group: one trial after the other, as they come in the mailbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
import torch

from advlora.distributed import Group
from advlora.training.workbench import Workbench
from advlora_platform.execution.places import here
from advlora_platform.execution.trial_run import free_memory, messages
from advlora_platform.execution.work import TRIALS_PER_PROCESS, Work
from advlora_platform.study.failures import class_of, classify
from advlora_platform.study.folder import StudyFolder
from advlora_platform.study.messages import Message, Reported
from advlora_platform.study.trials import Trial


def serve(settings: dict[str, Any]) -> None:
    """Serves a mailbox until it closes, or until a failure that asks for a fresh process."""
    from ray.train.torch import get_device

    work: Work = settings["work"]
    bench = Workbench(StudyFolder(work.folder).cache)
    server = _Server(settings["mailbox"], work, bench, Group.current(), get_device())
    server.announce()
    for _ in range(TRIALS_PER_PROCESS):
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
            if not met.shared:
                raise  # the others wait for this worker; only a new group frees them
            return not met.retried  # a trial is tried again by a new group
        finally:
            self.warm = True
            free_memory(self.device)
        self.group.wait()
        if self.group.rank == 0:
            ray.get(self.mailbox.settle.remote(number))
        self.group.wait()
        return True

    def _run(self, number: int, trial: Trial) -> None:
        for message in messages(self.work, trial, self.bench, self.group, self.device):
            wanted = self._tell(number, message)
            if isinstance(message, Reported) and not message.final:
                wanted = wanted and self._may_go_on(number)
            if not wanted:
                return

    def _tell(self, number: int, message: Message) -> bool:
        """Reports from the first worker; all workers get the same answer, whether to go on."""
        first = self.group.rank == 0
        return self.group.broadcast(bool(ray.get(self.mailbox.report.remote(number, message))) if first else False)

    def _may_go_on(self, number: int) -> bool:
        """Waits for the scheduler's decision about the last epoch, before another one costs anything.

        Every worker asks by itself: how long a slot pauses is not known, and collectives time out.
        """
        return not self.work.stoppable or self.group.broadcast(ray.get(self.mailbox.verdict.remote(number)))
